"""`python -m worker rank` where something is wrong: one line that says what to do, no traceback."""

import io
import json
import sys

import pytest

from engine.lanes import Lanes
from tests.fakes.clock import FakeClock
from tests.fakes.events import event_json
from tests.fakes.graph import FakeGraph
from tests.fakes.retriever import FakeRetriever
from tests.fakes.worker import Options, new_reranker
from worker.__main__ import main
from worker.build import Engine
from worker.errors import EXIT_FATAL, TransientError


@pytest.fixture
def retriever(monkeypatch: pytest.MonkeyPatch) -> FakeRetriever:
    """What the command finds candidates with; it scores with a graph without weights."""
    made = FakeRetriever({"t1": "read the file", "t2": "line by line"})
    lanes = Lanes(FakeGraph(), 1)
    engine = Engine(new_reranker(FakeClock(), lanes, Options(retriever=made)), lanes)
    monkeypatch.setattr("worker.lines.open_bundles", lambda _: None)
    monkeypatch.setattr("worker.lines.build_engine", lambda *_: engine)
    return made


def ask(monkeypatch: pytest.MonkeyPatch, *events: bytes) -> int:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n".join(events))))
    return main(["rank", "--batch.max-events", "1"])


def test_an_index_that_goes_away_is_one_line(
    retriever: FakeRetriever, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was answered until then is written; nothing is asked again by itself."""
    retriever.errors.extend([None, TransientError("Qdrant does not answer: timed out")])

    assert ask(monkeypatch, *(event_json(f"q{n}", f"read {n}") for n in range(3))) == EXIT_FATAL

    said = capsys.readouterr()
    assert [json.loads(line)["query_id"] for line in said.out.splitlines()] == ["q0"]
    (line,) = said.err.splitlines()
    assert line.startswith("kafka-reranker: Qdrant does not answer: timed out. From line 2 on")
    assert "RERANKER_QDRANT__URL" in line


def test_a_line_that_cannot_be_answered_costs_its_neighbours_nothing(
    retriever: FakeRetriever, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert retriever.errors == type(retriever.errors)()

    assert ask(monkeypatch, event_json("q0"), b"{", event_json("q2", "read")) == 1

    said = capsys.readouterr()
    assert [json.loads(line)["query_id"] for line in said.out.splitlines()] == ["q0", "q2"]
    (line,) = said.err.splitlines()
    assert line.startswith("line 2: ")
