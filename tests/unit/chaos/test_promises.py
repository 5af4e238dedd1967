"""The table of promises names tests that exist, and says what they said."""

import ast
import json
from pathlib import Path

import pytest

from tests.chaos.__main__ import plans
from tests.chaos.other_reports import REPORTS, in_words
from tests.chaos.promises import PROMISES
from tests.chaos.report import as_promises, write_section
from tests.chaos.said import as_rows, read_junit
from tests.chaos.scenarios import Plan, faults_of
from tests.conftest import REPOSITORY

STREAM, KILLS = "tests.e2e.test_guarantees_stream", "tests.e2e.test_guarantees_kills"
JUNIT = f"""<testsuites><testsuite>
<testcase classname="{STREAM}" name="test_networks_that_fail[cut]" time="2"/>
<testcase classname="{STREAM}" name="test_networks_that_fail[stall]" time="3"><failure/></testcase>
<testcase classname="{KILLS}" name="test_killed_workers" time="9">
<properties><property name="figures" value="0 lost"/></properties></testcase>
</testsuite></testsuites>"""


def test_each_promise_is_there_once() -> None:
    assert [promise.number for promise in PROMISES] == list(range(1, len(PROMISES) + 1))


@pytest.mark.parametrize("test", sorted({test for one in PROMISES for test in one.tests}))
def test_each_named_test_exists(test: str) -> None:
    file, name = test.split("::")
    tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_rows_say_what_tests_said(tmp_path: Path) -> None:
    file = tmp_path / "short.xml"
    file.write_text(JUNIT)
    rows = {row[0]: row[3] for row in as_rows(read_junit(file), {"kills": "20 kills"})}
    assert rows["1"] == "passed in 9 s; 0 lost<br>20 kills"
    assert "1 of 2 passed in 5 s" in rows["12"]
    assert rows["17"] == "not run"


def test_a_scenario_that_was_played_three_times_says_so() -> None:
    verdict = {"asked": 10_000, "lost": 0, "duplicated": 0, "misordered": 0}
    outcome = {"plan": {"name": "kills"}, "kills": 20, "broker_restarts": 0, "verdict": verdict}
    lossy = {**outcome, "verdict": {**verdict, "lost": 1}}
    table = as_promises({}, [outcome, lossy, outcome, outcome], {"fuzz": "many inputs"})
    said = "long form `kills`: 10000 events, 20 kills"
    assert f"{said}: 0 lost, 0 duplicated, 0 out of order (3 times)<br>" in table
    assert f"{said}: 1 lost, 0 duplicated, 0 out of order |" in table
    assert "many inputs" in table


def test_other_reports_are_said_in_words(tmp_path: Path) -> None:
    fuzzed = {"decoder": {"inputs": 12345, "seconds": 60, "result": "passed"}}
    (tmp_path / "fuzz.json").write_text(json.dumps(fuzzed))
    noticed = [{"mutation": "a", "noticed_by": ["test"]}, {"mutation": "b", "noticed_by": []}]
    (tmp_path / "mutations.json").write_text(json.dumps(noticed))
    assert in_words(tmp_path) == {
        "fuzz": "`make fuzz`: `decoder` 12,345 inputs in 60 s: passed",
        "mutations": "`make mutations`: 2 changes of the code, 1 noticed",
    }


def test_every_scenario_of_a_promise_is_one() -> None:
    named = {name for promise in PROMISES for name in promise.scenarios}
    assert named == {*plans(1, 1, 1), *REPORTS}


def test_a_section_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n")
    write_section(file, "x", "new\n")
    assert file.read_text() == "a\n<!-- x: begin -->\nnew\n<!-- x: end -->\nb\n"
    with pytest.raises(ValueError, match="no <!-- y"):
        write_section(file, "y", "new\n")


def test_a_seed_plays_the_same_faults_again() -> None:
    plan = Plan("kills", 1_000, 20, seed=7, broker_restarts=3, scale={0.5: 3})
    faults = faults_of(plan)
    assert faults == faults_of(plan)
    assert sum(fault.kind == "kill" for fault in faults) == 20
    assert all(0 <= fault.at < 1_000 for fault in faults)
    assert faults != faults_of(Plan("kills", 1_000, 20, seed=8, broker_restarts=3, scale={0.5: 3}))
