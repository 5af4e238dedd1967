"""What `export model` is given wrongly: one clear line, an exit code, and nothing half-written."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export.__main__ import main
from tests.unit.export.family_checkpoints import write_collection, write_pairs

REPOSITORY = Path(__file__).parents[3]

Spoil = Callable[[Path], object]


def config(**fields: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))

    return spoil


def rename(old: str, new: str) -> Spoil:
    return lambda folder: (folder / old).rename(folder / new)


def write(name: str, content: bytes) -> Spoil:
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        file = folder / name
        file.write_bytes(file.read_bytes()[:-1000])

    return spoil


CHECKPOINTS: dict[str, tuple[Spoil, str]] = {
    "no tokenizer": (rename("tokenizer.json", "other.txt"), "has no tokenizer: save it beside"),
    "a broken tokenizer": (write("tokenizer.json", b"{"), "the tokenizer can't be loaded"),
    "a bi-encoder": (config(architectures=["BertModel"]), "it is not a cross-encoder"),
    "several labels": (config(id2label={"0": "a", "1": "b", "2": "c"}), "has 3 labels"),
    "code of its own": (config(auto_map={"AutoModel": "x.X"}), "add --trust-remote-code if you"),
    "pickled weights": (
        rename("model.safetensors", "pytorch_model.bin"),
        "pickled weights, which are never loaded: save them as safetensors",
    ),
    "no weights": (rename("model.safetensors", "x"), "has no model.safetensors"),
    "weights cut off": (cut("model.safetensors"), "can't be loaded"),
    "other weights": (config(hidden_size=96), "can't be loaded"),
    "no configuration": (rename("config.json", "x"), "has no config.json"),
    "a broken configuration": (write("config.json", b"{"), "is not JSON"),
    "an unknown family": (config(model_type="nothing-known"), "can't be loaded"),
}

DATA: dict[str, tuple[Spoil, str]] = {
    "a document twice": (
        write("data/corpus.jsonl", b'{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}\n'),
        "line 2: the id 'a' was there before",
    ),
    "a document without id": (write("data/corpus.jsonl", b'{"text": "x"}\n'), "line 1"),
    "broken UTF-8": (write("data/queries.jsonl", b'{"_id": "q0", "text": "\xff"}\n'), "line 1"),
    "no judgements": (write("data/qrels.tsv", b"query-id\tcorpus-id\tscore\n"), "no judgements"),
    "nothing relevant": (
        write("data/qrels.tsv", b"query-id\tcorpus-id\tscore\nq0\td0\t0\n"),
        "no query has a relevant document",
    ),
    "calibration in broken UTF-8": (write("pairs.jsonl", b'{"query": "\xff"}'), "can't be read"),
    "calibration of one query": (
        write("pairs.jsonl", b'{"query": "a", "document": "b"}\n'),
        "give at least two queries",
    ),
}


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line of the error; other lines only say what is under way."""
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if not line.endswith("…")]
    assert len(errors) == 1, errors
    return errors[0]


@pytest.mark.parametrize("what", CHECKPOINTS)
def test_a_checkpoint(
    what: str, altered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, said = CHECKPOINTS[what]
    spoil(altered)
    arguments = ["--model", altered, "--precision", "fp32", "--out", tmp_path / "out"]
    assert main(["model", *map(str, arguments)]) == 1
    line = complaint(capsys)
    assert line.startswith("error: ")
    assert said in line
    assert list(tmp_path.iterdir()) == [altered]


@pytest.mark.parametrize("what", DATA)
def test_data(what: str, altered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, said = DATA[what]
    arguments = ["--data", write_collection(tmp_path / "data")]
    arguments += ["--calibration", write_pairs(tmp_path / "pairs.jsonl")]
    spoil(tmp_path)
    arguments += ["--model", altered, "--precision", "int8", "--out", tmp_path / "out"]
    before = set(tmp_path.iterdir())
    assert main(["model", *map(str, arguments)]) == 1
    assert said in complaint(capsys)
    assert set(tmp_path.iterdir()) == before


def test_code_of_a_checkpoint_is_not_run_unasked(altered: Path, tmp_path: Path) -> None:
    """The file would leave a trace if it were imported."""
    trace = tmp_path / "trace"
    config(auto_map={"AutoModelForSequenceClassification": "own.Own"})(altered)
    (altered / "own.py").write_text(f"open({str(trace)!r}, 'w').close()\n")
    arguments = ["model", "--model", altered, "--precision", "fp32", "--out", tmp_path / "out"]
    assert main(list(map(str, arguments))) == 1
    assert not trace.exists()


def test_trusted_code_is_run(
    altered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "m"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    config(auto_map={"AutoModelForSequenceClassification": "own.Own"})(altered)
    (altered / "own.py").write_text(
        "from transformers import BertForSequenceClassification\n\n\n"
        "class Own(BertForSequenceClassification):\n    pass\n"
    )
    arguments = ["--model", altered, "--precision", "fp32", "--out", tmp_path / "out"]
    assert main(["model", *map(str, arguments), "--trust-remote-code"]) == 0
    assert list((tmp_path / "m").rglob("own.py"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_export_leaves_nothing(
    number: signal.Signals, altered: Path, tmp_path: Path
) -> None:
    """It is interrupted while it has a folder beside the target."""
    folder = tmp_path / "bundles"
    folder.mkdir()
    arguments = ["--model", altered, "--precision", "int8", "--out", folder / "out"]
    arguments += ["--data", write_collection(tmp_path / "data")]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "export", "model", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    try:
        while not list(folder.iterdir()):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=400)
    finally:
        process.kill()
    assert process.returncode not in {0, 1}
    assert said.splitlines()[-1] == "interrupted; nothing was written"
    assert list(folder.iterdir()) == []
