"""From collected events to groups.parquet: joins, order of sources, splits, errors, reruns."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from engine.index import Hit
from tests.unit.training.feedback_run import click, impression, judgement, write_run
from training.__main__ import main
from training.annotate.pairs import Annotated, write_pairs
from training.errors import InputError
from training.label.command import label
from training.label.keys import normalise, split_of
from training.label.mine import mine
from training.label_rows import LabelRow, read_rows
from training.plan_data import AgreementPlan, ClickPlan, LabelPlan, MinePlan, SplitPlan
from training.run_folder import RunFolder

ASSUMED = ClickPlan(propensity="assume", eta=1.0)
PLAN = LabelPlan(clicks=ASSUMED)


def rows_of(run: RunFolder) -> dict[tuple[str, str], LabelRow]:
    return {(row.query, row.doc_id): row for row in read_rows(run.groups)}


def test_clicks_become_labels_corrected_for_position(tmp_path: Path) -> None:
    events = [
        impression("1", "red fox", ["a", "b", "c"], tenant="shop"),
        impression("2", "blue fox", ["b", "d"]),
        click("1", "c", 3),
        click("9", "c", 1),  # no such impression
    ]
    run = write_run(tmp_path, events)
    summary = label(PLAN, run)
    rows = rows_of(run)
    assert {key: (row.label, row.weight) for key, row in rows.items() if key[0] == "red fox"} == {
        ("red fox", "a"): (0.0, 1.0),
        ("red fox", "b"): (0.0, 0.5),
        ("red fox", "c"): (1.0, pytest.approx(3.0)),
    }
    row = rows["red fox", "c"]
    assert (row.text, row.tenant, row.source, row.retrieval_rank) == (
        "text of c",
        "shop",
        "click",
        3,
    )
    assert summary["clicks"] | {"models": 0, "tiers": 0} == {
        "impressions": 2, "clicks": 1, "without_impression": 1, "at_another_position": 0,
        "too_short": 0, "models": 0, "tiers": 0,
    }  # fmt: skip


def test_the_same_question_asked_differently_is_one_group(tmp_path: Path) -> None:
    events = [
        impression("1", "Red  fox", ["a"]),
        impression("2", "red fox", ["a"]),
        impression("3", "red fox", ["a"], tenant="other"),
        impression("4", "blue fox", ["a"]),
        click("1", "a", 1),
    ]
    run = write_run(tmp_path, events)
    label(PLAN, run)
    found = list(read_rows(run.groups))
    assert len({row.query_id for row in found}) == 3
    labels = {row.tenant: row.label for row in found if normalise(row.query) == "red fox"}
    assert labels == {None: 0.5, "other": 0.0}
    assert len({row.split for row in found if normalise(row.query) == "red fox"}) == 1


def test_late_clicks_and_clicks_that_were_left_at_once(tmp_path: Path) -> None:
    events = [
        click("1", "a", 1, dwell_ms=300),
        click("1", "b", 2, dwell_ms=9000),  # came before its impression
        impression("1", "red fox", ["a", "b"]),
        impression("2", "blue fox", ["a"]),
    ]
    run = write_run(tmp_path, events)
    summary = label(LabelPlan(clicks=ClickPlan(propensity="assume", min_dwell_ms=1000)), run)
    rows = rows_of(run)
    assert (rows["red fox", "a"].label, rows["red fox", "b"].label) == (0.0, 1.0)
    assert summary["clicks"]["too_short"] == 1


def test_a_judgement_comes_before_a_machine_and_that_before_clicks(tmp_path: Path) -> None:
    events = [
        impression("1", "red fox", ["a", "b", "c"]),
        *(click("1", doc, place) for place, doc in enumerate("abc", start=1)),
        {"kind": "judgement", "query_id": "1", "doc_id": "a", "grade": 1, "annotator": "anna"},
    ]
    run = write_run(tmp_path, events, [judgement("blue whale", "a whale", 1.0)])
    machine = [
        Annotated("red fox", None, doc, f"text of {doc}", 2 / 3, 0.7, "llm:m") for doc in "ab"
    ]
    write_pairs(machine, run.annotated / "pairs.parquet")
    summary = label(PLAN, run)
    rows = rows_of(run)
    found = {doc: (rows["red fox", doc].source, rows["red fox", doc].label) for doc in "abc"}
    assert found == {
        "a": ("judgement", pytest.approx(1 / 3)),
        "b": ("annotated", pytest.approx(2 / 3)),
        "c": ("click", 1.0),
    }
    assert rows["red fox", "b"].weight == 0.7
    # The machine is measured against the people where both judged.
    (pair,) = summary["judgements"]["cohen_kappa"]
    assert (pair["annotators"], pair["pairs"]) == (["anna", "llm:m"], 1)


def test_a_judgement_of_a_known_query_id_belongs_to_its_question_and_tenant(
    tmp_path: Path,
) -> None:
    judged = {"kind": "judgement", "doc_id": "a", "grade": 3, "annotator": "anna"}
    events = [
        impression("1", "red fox", ["a"], tenant="shop"),
        impression("2", "blue fox", ["a"]),
        judged | {"query_id": "1", "query": "another wording"},
        judged | {"query_id": "7"},
    ]
    run = write_run(tmp_path, events)
    summary = label(PLAN, run)
    (only,) = read_rows(run.groups)
    assert (only.query, only.tenant, only.source) == ("red fox", "shop", "judgement")
    assert summary["judgements"]["unknown_query_id"] == 1


def test_a_judged_text_is_the_document_that_was_shown_with_it(tmp_path: Path) -> None:
    events = [
        impression("1", "red fox", ["a", "b"]),
        impression("2", "blue fox", ["a"]),
        click("1", "a", 1),
    ]
    run = write_run(tmp_path, events, [judgement("red fox", "text of a", 1 / 3)])
    label(PLAN, run)
    rows = {row.doc_id: row for row in read_rows(run.groups) if row.query == "red fox"}
    assert sorted(rows) == ["a", "b"]
    assert (rows["a"].source, rows["a"].retrieval_rank) == ("judgement", 1)


def test_disputes_are_listed_and_left_out_as_asked(tmp_path: Path) -> None:
    said = [
        judgement("red fox", "a fox", 1.0, "anna"),
        judgement("red fox", "a fox", 0.0, "ben"),
        judgement("red fox", "=cmd()", 1.0, "anna"),
        judgement("red fox", "=cmd()", 2 / 3, "ben"),
        judgement("blue fox", "a whale", 0.0, "ben"),
    ]
    run = write_run(tmp_path, [], said)
    label(LabelPlan(agreement=AgreementPlan(disputed="drop")), run)
    assert {row.text for row in read_rows(run.groups)} == {"=cmd()", "a whale"}
    with (run.labels / "disagreements.csv").open(newline="") as file:
        (dispute,) = csv.DictReader(file)
    assert dispute["query"] == "red fox"
    assert (dispute["anna"], dispute["ben"], dispute["weight"]) == ("1.0", "0.0", "0.0")


def test_one_annotator_only_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(
        tmp_path, [], [judgement("red fox", "a fox", 1.0), judgement("blue", "a whale", 0.0)]
    )
    label(PLAN, run)
    assert "warning: agreement can't be measured: all judgements are by one annotator" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("events", "said", "message"),
    [
        ([], [], "there is nothing to label"),
        (
            [impression("1", "red fox", ["a"]), impression("2", "Red fox", ["a"])],
            [],
            r"all queries are identical \('red fox'\)",
        ),
        (
            [impression("1", "red fox", ["a"]), impression("2", "blue fox", ["a"])],
            [],
            "there are no positives: 0 clicks on 2 impressions, 0 judged pairs",
        ),
        (
            [],
            [judgement("red fox", "x", 0.0), judgement("blue fox", "y", 0.0)],
            "there are no positives: 0 clicks on 0 impressions, 2 judged pairs",
        ),
        (
            [
                impression("1", "red fox", ["a"], texts=False),
                impression("2", "blue fox", ["a"], texts=False),
                click("1", "a", 1),
            ],
            [],
            r"2 pairs have no text: set label\.index_bundle",
        ),
    ],
)
def test_what_can_not_be_learnt_from_is_said_in_one_line(
    tmp_path: Path, events: list[dict[str, Any]], said: list[Any], message: str
) -> None:
    run = write_run(tmp_path, events, said)
    with pytest.raises(InputError, match=message):
        label(PLAN, run)
    assert not run.groups.exists()


def test_a_rerun_with_equal_inputs_does_nothing_and_a_new_event_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [impression("1", "red fox", ["a", "b"]), impression("2", "blue", ["a"])]
    run = write_run(tmp_path, [*events, click("1", "a", 1)])
    first = label(PLAN, run)
    before = run.groups.read_bytes()
    other = LabelPlan(clicks=ASSUMED, seed=14)
    with monkeypatch.context() as patch:
        patch.setattr("training.label.command._label", None)  # an error where it is called
        assert label(PLAN, run) == first
        with pytest.raises(TypeError):
            label(other, run)
    assert label(other, run) == first
    assert run.groups.read_bytes() == before  # the same bytes, as nothing is drawn here


def test_the_report_escapes_what_users_wrote_and_is_the_same_twice(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    events = [impression("1", bad, ["a", "b"]), impression("2", "blue", ["a"]), click("1", "a", 1)]
    run = write_run(tmp_path, events)
    label(PLAN, run)
    html = (run.labels / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert html.count("<svg") == 5
    (run.labels / "done.json").unlink()
    label(PLAN, run)
    assert (run.labels / "report.html").read_text(encoding="utf-8") == html


def test_splits_go_by_the_text_alone() -> None:
    plan = SplitPlan(dev=0.1, test=0.2)
    splits = [split_of(f"question {number}", plan) for number in range(5000)]
    assert splits.count("test") / 5000 == pytest.approx(0.2, abs=0.02)
    assert splits.count("dev") / 5000 == pytest.approx(0.1, abs=0.02)
    assert split_of("Straße  no. 5", plan) == split_of("STRASSE no. 5", plan)


class FixedFinder:
    """Knows the score of every text."""

    def __init__(self, scores: dict[str, float]) -> None:
        self.scores = scores

    def retrieve(self, queries: Any, top_k: int) -> list[list[Hit]]:
        raise AssertionError

    def similarity(self, query: str, texts: Any) -> list[float]:
        return [self.scores[text] for text in texts]


def row(doc_id: str, value: float) -> LabelRow:
    return LabelRow("q", "red fox", None, doc_id, f"text of {doc_id}", value, 1.0, "train", "click")


def hits(**scores: float) -> list[Hit]:
    ranked = sorted(scores.items(), key=lambda pair: -pair[1])
    return [
        Hit(doc_id, f"text of {doc_id}", score, rank)
        for rank, (doc_id, score) in enumerate(ranked, start=1)
    ]


def test_hard_negatives_are_near_unknown_and_worse_than_the_positive() -> None:
    plan = MinePlan(per_query=5, from_rank=2, to_rank=6, max_share_of_positive=0.9)
    found = hits(near=0.99, right=0.95, tie=0.94, judged=0.8, one=0.7, two=0.6, deep=0.5)
    mined = mine([row("right", 1.0), row("judged", 0.0)], found, FixedFinder({}), plan, 1)
    assert [(one.doc_id, one.label, one.source, one.retrieval_rank) for one in mined] == [
        ("one", 0.0, "mined", 5),
        ("two", 0.0, "mined", 6),
    ]


def test_a_positive_that_the_retriever_missed_is_scored_by_its_text() -> None:
    plan = MinePlan(per_query=5, from_rank=1, max_share_of_positive=1.0)
    finder = FixedFinder({"text of right": 0.65})
    mined = mine([row("right", 1.0)], hits(one=0.7, two=0.6), finder, plan, 1)
    assert [one.doc_id for one in mined] == ["two"]
    assert mine([row("right", 0.2)], hits(one=0.7, two=0.6), finder, plan, 1) == []


def test_the_command_prints_the_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(
        tmp_path / "run", [], [judgement("red", "a fox", 1.0), judgement("blue", "b", 0.0)]
    )
    plan = tmp_path / "plan.yaml"
    plan.write_text("label: {split: {dev: 0.3, test: 0.3}}")
    assert main(["label", "--plan", str(plan), "--run", str(run.path)]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == json.loads((run.labels / "summary.json").read_text())
    assert summary["rows_by_source"] == {"judgement": 2}
