"""Which of two models is better: the test that may be looked at any time, and its input."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.events import Experiment, ModelRef
from training.__main__ import main
from training.ab.observations import Shown, first_of_each, interleaved, split
from training.ab.sequential import confidence, judge, log_capital_path, share_mismatch

ALPHA = 0.05
CHAMPION = ModelRef(name="a", digest="sha256:" + "aa" * 32, precision="int8")
CHALLENGER = ModelRef(name="b", digest="sha256:" + "bb" * 32, precision="int8")
START = datetime(2026, 1, 1, tzinfo=UTC)


def experiment(arm: str, teams: tuple[str, ...] | None = None, **more: Any) -> Experiment:
    fields: dict[str, Any] = {
        "name": "t",
        "mode": "split" if teams is None else "interleave",
        "by": "query_id",
        "share": 0.5,
        "bucket": 7,
        "champion": CHAMPION,
        "challenger": CHALLENGER,
    }
    return Experiment.model_validate({**fields, "arm": arm, "teams": teams, **more})


def coins(rng: np.random.Generator, win: float, lose: float, count: int) -> Any:
    return rng.choice([1.0, -1.0, 0.0], size=count, p=[win, lose, 1 - win - lose])


def arms_of(rng: np.random.Generator, champion: float, challenger: float, count: int) -> Any:
    """Values as `split` makes them, of lists that are clicked with these probabilities."""
    theirs = rng.random(count) < 0.3
    good = rng.random(count) < np.where(theirs, challenger, champion)
    shown = [
        Shown(f"q{n}", ("d",), "full", experiment("challenger" if own else "champion", share=0.3))
        for n, own in enumerate(theirs)
    ]
    clicks = {f"q{n}": {"d"} for n in np.flatnonzero(good)}
    return split(shown, clicks, "any_click", 0.3)


def test_looking_after_every_query_finds_no_difference_where_there_is_none() -> None:
    """400 comparisons of equals, each looked at 1,500 times."""
    rng = np.random.default_rng(1)
    wrong = naive = 0
    for _ in range(400):
        values = coins(rng, 0.2, 0.2, 1500)
        path = log_capital_path(values, -1.0, 1.0)
        wrong += bool(path.max() >= -np.log(ALPHA))
        n = np.arange(1, len(values) + 1)
        z = np.cumsum(values) / np.sqrt(np.maximum(np.cumsum(values**2), 1))
        naive += bool((np.abs(z[n > 50]) > 1.96).any())
    assert wrong <= 400 * ALPHA
    assert naive > 400 * 4 * ALPHA  # what the same looks do to a test that is made for one


def test_no_difference_is_found_between_equal_arms() -> None:
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(60):
        observed = arms_of(rng, 0.4, 0.4, 400)
        wrong += judge(observed.values, observed.low, observed.high, ALPHA).decided_at is not None
    assert wrong <= 60 * ALPHA


@pytest.mark.parametrize("sign", [1, -1])
def test_a_real_difference_is_found(sign: int) -> None:
    rng = np.random.default_rng(3)
    found = [judge(sign * coins(rng, 0.3, 0.2, 3000), -1, 1, ALPHA) for _ in range(20)]
    assert all(one.decided_at is not None for one in found)
    assert np.median([one.decided_at or 0 for one in found]) < 1500
    assert all(np.sign(one.mean) == sign for one in found)
    observed = arms_of(rng, 0.3, 0.5, 3000)
    verdict = judge(observed.values, observed.low, observed.high, ALPHA)
    assert verdict.low < 0.2 < verdict.high
    assert verdict.low > 0
    assert verdict.decided_at is not None


def test_the_truth_stays_within_the_confidence_sequence() -> None:
    """At every look, in all but few of many comparisons."""
    rng = np.random.default_rng(4)
    left = 0
    for _ in range(60):
        values = coins(rng, 0.3, 0.2, 600)
        looks = [confidence(values[:n], -1, 1, ALPHA) for n in (20, 60, 150, 300, 600)]
        left += any(not low <= 0.1 <= high for low, high in looks)
    assert left <= 60 * ALPHA
    assert looks[-1][1] - looks[-1][0] < looks[0][1] - looks[0][0]


def test_few_observations_say_nothing() -> None:
    assert judge(np.zeros(0), -1, 1, ALPHA).p_value == 1
    one = judge(np.ones(1), -1, 1, ALPHA)
    assert one.decided_at is None
    assert (one.low, one.high) != (-1, 1)
    assert judge(np.zeros(500), -1, 1, ALPHA).e_value == 1


def test_a_broken_assignment_is_found() -> None:
    assert share_mismatch(500, 1000, 0.5) < 1
    assert share_mismatch(600, 1000, 0.5) > 1000
    assert share_mismatch(200, 1000, 0.2) < 1


def test_interleaved_queries_are_won_by_clicks() -> None:
    teams = ("champion", "challenger", "challenger")
    shown = [
        Shown(f"q{n}", ("x", "y", "z"), "full", experiment("interleaved", teams)) for n in range(4)
    ]
    clicks = {"q0": {"y", "z"}, "q1": {"x"}, "q2": {"x", "y"}, "q3": {"elsewhere"}}
    assert interleaved(shown, clicks).values.tolist() == [1, -1, 0, 0]


def test_split_values_are_worked_out_by_hand() -> None:
    shown = [
        Shown("q0", ("x", "y"), "full", experiment("challenger", share=0.25)),
        Shown("q1", ("x", "y"), "full", experiment("champion", share=0.25)),
        Shown("q2", ("x", "y"), "full", experiment("challenger", share=0.25)),
    ]
    observed = split(shown, {"q0": {"y"}, "q2": {"x", "y"}}, "first_click", 0.25)
    # Goodness 1/2, 0, 1; means before: 0, 1/2, 1/4.
    assert observed.values.tolist() == pytest.approx([0.5 / 0.25, 0.5 / 0.75, 0.75 / 0.25])
    assert (observed.low, observed.high) == (-4, 4)
    assert {arm: found.tolist() for arm, found in observed.arms.items()} == {
        "champion": [0],
        "challenger": [0.5, 1],
    }


def test_a_query_counts_once() -> None:
    late, early, other = (
        Shown(query_id, (), "full", experiment("champion"), time_ms)
        for query_id, time_ms in (("q", 2), ("q", 1), ("r", 3))
    )
    assert first_of_each([late, early, other]) == [early, other]


def lines_of(count: int, win: float, lose: float, **more: Any) -> list[dict[str, Any]]:
    rng = np.random.default_rng(5)
    lines: list[dict[str, Any]] = []
    for n in range(count):
        swap = bool(rng.random() < 0.5)
        teams = ("challenger", "champion") if swap else ("champion", "challenger")
        time = (START + timedelta(minutes=n)).isoformat()
        lines.append(
            {
                "kind": "impression",
                "query_id": f"q{n}",
                "query": "a",
                "model": CHAMPION.model_dump(),
                "shown": [
                    {"doc_id": each, "rank": place, "score": 1.0, "retrieval_rank": place}
                    for place, each in enumerate(teams, start=1)
                ],
                "experiment": experiment("interleaved", teams, **more).model_dump(),
                "time": time,
            }
        )
        drawn = rng.random()
        if drawn < win + lose:
            clicked = "challenger" if drawn < win else "champion"
            place = teams.index(clicked) + 1
            lines.append(
                {
                    "kind": "click",
                    "query_id": f"q{n}",
                    "doc_id": clicked,
                    "position": place,
                    "time": time,
                }
            )
    return lines


def report_of(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, Any, str]:
    code = main(["ab-report", "--events", str(path), *more])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, err


def test_the_report_names_the_winner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "feedback.jsonl"
    path.write_text("\n".join(map(json.dumps, lines_of(900, 0.4, 0.2))) + "\nnot JSON\n")
    code, report, _ = report_of(path, capsys)
    assert (code, report["winner"], report["mode"]) == (0, "challenger", "interleave")
    assert report["queries"] == 900 - report["waiting_for_clicks"]
    assert report["waiting_for_clicks"] in (59, 60)
    assert (report["bad_lines"], report["warnings"]) == (1, [])
    assert report["confidence_sequence"][0] > 0
    assert report["p_value"] < ALPHA
    code, report, _ = report_of(path, capsys, "--alpha", "1e-30")
    assert (code, report["winner"], report["decided_at_query"]) == (0, "undecided", None)


def test_a_run_collected_by_the_project_gives_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through `collect`'s own rows and store."""
    from training.collect.events import decode  # noqa: PLC0415
    from training.collect.store import Progress, opened  # noqa: PLC0415
    from training.run_folder import RunFolder  # noqa: PLC0415

    lines = lines_of(200, 0.4, 0.2)
    path = tmp_path / "feedback.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    rows = []
    for n, line in enumerate(lines):
        time_ms = round(datetime.fromisoformat(line.pop("time")).timestamp() * 1000)
        raw = json.dumps(line).encode()
        rows.append(decode(raw, None, f"t/0/{n}", time_ms, keep_user=False))
    with opened(RunFolder(tmp_path / "run")) as store:
        store.write(rows, Progress())
    assert main(["ab-report", "--run", str(tmp_path / "run")]) == 0
    of_run = json.loads(capsys.readouterr().out)
    assert of_run == report_of(path, capsys)[1]


def test_what_cannot_be_compared_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "feedback.jsonl"
    some = lines_of(5, 0.4, 0.2)
    for lines, said, more in (
        ([{**one, "experiment": None} for one in some], "no impression belongs", ()),
        (some + lines_of(9, 0.4, 0.2, name="u")[10:], "there are several", ()),
        (some, "there is no experiment x", ("--experiment", "x")),
        (some, "younger than --settle-minutes", ("--settle-minutes", "99")),
        (some, "between 0 and 1", ("--alpha", "2")),
        (some + lines_of(9, 0.4, 0.2, share=0.4)[9:], "several settings", ()),
        ([*some, {"kind": "click"}], "are no feedback events", ()),
    ):
        path.write_text("\n".join(map(json.dumps, lines)))
        code, _, err = report_of(path, capsys, *more)
        assert code == 2
        assert said in err
        assert err.count("\n") == 1
