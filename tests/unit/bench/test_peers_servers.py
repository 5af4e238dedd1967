"""Servers beside ours: started in a folder with the model, asked over HTTP, answers sorted."""

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bench.engine_bundles import BenchError
from bench.engine_texts import Question
from bench.peers_child import ONNX_INT8
from bench.peers_servers import KINDS, ServerPeer, find_program
from bench.peers_setup import Setting

FAKE = Path(__file__).parents[2] / "fakes" / "rerank_server.py"
QUESTIONS = [
    Question("one", ("four", "three is more", "a")),
    Question("two", ("longest of them", "short")),
]


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    checkpoint = tmp_path / "checkpoint"
    (checkpoint / "onnx").mkdir(parents=True)
    (checkpoint / "onnx" / ONNX_INT8).write_bytes(b"graph")
    (checkpoint / "config.json").write_text("{}")
    return Setting(Path(sys.executable), checkpoint)


@pytest.fixture
def program(tmp_path: Path) -> str:
    file = tmp_path / "server"
    file.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    file.chmod(0o755)
    return str(file)


@pytest.fixture(params=sorted(KINDS))
def server(request: pytest.FixtureRequest, setting: Setting, program: str) -> Iterator[ServerPeer]:
    with closing(ServerPeer.start(request.param, program, setting)) as peer:
        yield peer


@pytest.mark.parametrize("one_at_a_time", [True, False])
def test_scores_stand_where_their_texts_do(server: ServerPeer, one_at_a_time: bool) -> None:
    answered = server.answer(QUESTIONS, one_at_a_time=one_at_a_time)
    assert answered.scores == [[4.0, 13.0, 1.0], [15.0, 5.0]]
    assert answered.timing.wall_s > 0
    assert answered.timing.cpu_s >= 0


def test_a_server_that_fails_is_no_answer(server: ServerPeer) -> None:
    with pytest.raises(BenchError, match="gave no scores"):
        server.answer([Question("one", ("broken",))], one_at_a_time=True)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_graph_lies_where_the_server_looks(name: str, setting: Setting, program: str) -> None:
    ServerPeer.start(name, program, setting).close()
    assert (setting.checkpoint / f"server-{name}" / KINDS[name].graph).read_bytes() == b"graph"


def test_a_program_that_ends_is_told_of(setting: Setting) -> None:
    with pytest.raises(BenchError, match="tei did not start"):
        ServerPeer.start("tei", "false", setting)


def test_programs_are_looked_for(program: str) -> None:
    assert find_program("infinity", program) == program
    with pytest.raises(BenchError, match="give the path of text-embeddings-router"):
        find_program("tei", "/nowhere/router")
