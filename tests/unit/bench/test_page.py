"""The tables of docs/performance.md come from the runs, each to its place."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.engine_bundles import BenchError
from bench.page import PAGE, PLACE, filled, main
from bench.report import Machine, Table, write
from bench.targets import TARGETS, target_table

REPOSITORY = Path(__file__).resolve().parents[3]
MACHINE = Machine("a CPU", 2, 0.1, "3.11", {"onnxruntime": "1.0"})
PLACES = "before\n<!-- bench one speeds -->\nold\n<!-- end -->\nafter\n"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write(tmp_path, "one", MACHINE, [Table("speeds", "Speeds", [{"x": 1.5, "y": "z"}], "a note")])
    return tmp_path


def test_a_table_goes_to_its_place_with_the_machine(runs: Path) -> None:
    page, missing = filled(PLACES, runs)
    assert missing == []
    assert page.startswith("before\n<!-- bench one speeds -->\n| x | y |\n")
    assert "| 1.5 | z |" in page
    assert "a note" in page
    assert "a CPU, 2 cores" in page
    assert "old" not in page
    assert page.endswith("<!-- end -->\nafter\n")
    assert filled(page, runs) == (page, [])


def test_without_a_run_the_page_stays_and_it_is_said(tmp_path: Path) -> None:
    assert filled(PLACES, tmp_path) == (PLACES, ["one speeds"])


def test_a_run_without_the_table_is_an_error(runs: Path) -> None:
    with pytest.raises(BenchError, match="has no table others"):
        filled(PLACES.replace("speeds", "others"), runs)


def test_the_command_writes_the_page(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(PLACES + PLACES.replace("one", "two") + PLACES.replace("one", "plot"))
    (runs / "speeds.svg").write_text("<svg/>")
    assert main(["--page", str(page), "--out", str(runs)]) == 0
    assert "| 1.5 | z |" in page.read_text()
    assert "two speeds" in capsys.readouterr().out
    assert "![speeds](performance/speeds.svg)" in page.read_text()
    assert (tmp_path / "page" / "speeds.svg").read_text() == "<svg/>"


def run_with(table: str, **row: Any) -> dict[str, Any]:
    return {"tables": {table: [{"what": "other", "value": "9"}, row]}}


def verdict(runs: dict[str, Any], what: str) -> tuple[object, object]:
    rows = {row["what"]: row for row in target_table(runs).rows}
    return rows[what]["measured"], rows[what]["met"]


def test_targets_are_met_or_not_by_the_median() -> None:
    what = "start to ready, s"
    assert verdict({}, what) == ("no run", "")
    for value, met in (("1.90 (1.84-3.10)", "yes"), ("3.10 (1.84-3.20)", "no")):
        runs = {"bench": run_with("worker", what=what, value=value)}
        assert verdict(runs, what) == (value, met)
    ratio = "two lanes : one"
    worker = f"{ratio}, the worker, with broker and application on the same cores"
    for value, met in (("1.80 (1.50-1.90)", "yes"), ("1.79 (1.70-1.90)", "no")):
        run = {"tables": {"fleet_ratios": [{"ratio": ratio, "within a round": value}]}}
        assert verdict({"scale": run}, worker) == (value, met)


def test_every_place_of_the_page_is_one_of_the_targets_or_of_a_command() -> None:
    places = {found.group(2, 3) for found in PLACE.finditer((REPOSITORY / PAGE).read_text())}
    assert ("targets", "targets") in places
    assert {(target.run, target.table) for target in TARGETS} <= places
    assert {stem for stem, _ in places} <= {
        *("targets", "plot", "bench", "peers", "scale", "cascade", "profile")
    }


def test_reports_keep_title_and_note(runs: Path) -> None:
    found = json.loads((runs / "one.json").read_text())
    assert (found["titles"]["speeds"], found["notes"]["speeds"]) == ("Speeds", "a note")
