"""`python -m demo.loop`: what a user got wrong is one line, and nothing was built by then."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("confluent_kafka")

from demo.errors import DemoError
from demo.loop import __main__ as loop
from demo.loop.setting import Setting
from demo.loop.world import World
from engine.errors import BundleError
from export.corpus import CorpusError
from export.errors import CheckpointError, VerificationError
from export.gate import GateError
from tests.unit.demo.tiny_world import write_tiny_world
from tests.unit.export.tiny_cross_encoder import write_cross_encoder, write_encoder_without_head
from training.errors import TrainingError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tiny_world(tmp_path / "data")


@pytest.fixture
def start(tmp_path: Path) -> Path:
    return write_cross_encoder(tmp_path / "reranker")


def said(data: Path, start: Path, build: Path, capsys: pytest.CaptureFixture[str]) -> str:
    options = {"--data": data, "--start": start, "--build-dir": build}
    assert loop.main([str(part) for option in options.items() for part in option]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def fails_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(setting: Setting, world: World) -> None:
        raise error

    monkeypatch.setattr(loop, "prepare", prepare)


@pytest.mark.parametrize(
    "error",
    [
        DemoError("no"),
        TrainingError("no"),
        CheckpointError("no"),
        VerificationError("no"),
        GateError("no", ()),
        CorpusError("no"),
        BundleError("no"),
    ],
)
def test_what_goes_wrong_is_one_line(
    error: Exception,
    data: Path,
    start: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fails_with(error, monkeypatch)

    assert said(data, start, tmp_path / "build", capsys) == "loop: no"


@pytest.mark.parametrize("kind", ["nowhere", "empty", "headless"])
def test_a_start_that_is_no_reranker_is_refused_before_anything_is_built(
    kind: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fails_with(AssertionError("the start was not checked"), monkeypatch)
    start = tmp_path / kind
    if kind == "empty":
        start.mkdir()
    elif kind == "headless":
        write_encoder_without_head(start)

    line = said(data, start, tmp_path / "build", capsys)

    assert line.startswith("loop: ")
    assert kind in line
    assert not (tmp_path / "build").exists()


def test_a_line_of_the_corpus_that_is_no_document_is_named(
    data: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train", "dev", "test"):
        write_tiny_world(data / part)
    with (data / "dev" / "corpus.jsonl").open("a") as lines:
        lines.write(json.dumps({"_id": "bad"}) + "\n")

    assert "corpus.jsonl, line 281: the document has no text" in said(
        data, start, tmp_path / "build", capsys
    )
