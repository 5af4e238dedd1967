import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.bundles import open_model
from engine.score import Scorer
from export.__main__ import main
from tests.unit.export.conftest import CrossEncoder
from tests.unit.export.family_checkpoints import write_collection, write_pairs

PAIRS = [
    ("read a file", "open the file, read it line by line, then close it"),
    ("read a file", "a fox and a dog"),
    ("machine learning", "a broker keeps records of a topic in partitions"),
    ("read a file", "a document far too long for the model " * 20),
]


def scores(bundle: Path) -> list[float]:
    scorer = Scorer.open(open_model(bundle))
    try:
        return [scored.logit for scored in scorer.score(PAIRS)]
    finally:
        scorer.close()


def quick(folder: Path) -> tuple[str | Path, ...]:
    """Give options for few pairs to calibrate with, and queries that any order answers."""
    data, pairs = folder / "data", folder / "pairs.jsonl"
    if not data.is_dir():
        write_collection(data)
    return "--data", data, "--calibration", write_pairs(pairs)


def export(*arguments: str | Path) -> int:
    return main(["model", *map(str, arguments)])


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_fp32_bundle_opens_in_the_engine(
    family: str, cross_encoder: CrossEncoder, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    assert export("--model", cross_encoder(family), "--precision", "fp32", "--out", out) == 0
    manifest = open_model(out).manifest
    assert manifest.family == family
    assert manifest.recipe == ("optimum" if family == "distilbert" else "trimmed")
    assert np.isfinite(scores(out)).all()


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_int8_bundle_ranks_like_fp32(
    family: str, cross_encoder: CrossEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = cross_encoder(family)
    assert export("--model", model, "--precision", "fp32", "--out", tmp_path / "fp32") == 0
    capsys.readouterr()
    options = quick(tmp_path)
    out = tmp_path / "int8"
    assert export("--model", model, "--precision", "int8", "--out", out, "--json", *options) == 0
    summary = json.loads(capsys.readouterr().out)
    bundle = open_model(out)
    assert summary["digest"] == bundle.digest
    assert summary["bytes"] == sum(file.bytes for file in bundle.manifest.files.values())
    assert summary["forced"] is False
    assert bundle.manifest.verification is not None
    assert bundle.manifest.verification.kendall_tau > 0.8
    assert "attention_mask" not in bundle.manifest.inputs
    exact, quantized = np.asarray(scores(tmp_path / "fp32")), np.asarray(scores(out))
    assert np.abs(exact - quantized).max() < 0.3 * exact.std()


def test_same_input_gives_the_same_digest(cross_encoder: CrossEncoder, tmp_path: Path) -> None:
    options = ("--model", cross_encoder("bert"), *quick(tmp_path))
    for precision in ("int8", "int4"):
        for out in ("a", "b"):
            export("--precision", precision, "--out", tmp_path / f"{precision}-{out}", *options)
        first, second = (open_model(tmp_path / f"{precision}-{out}") for out in "ab")
        assert first.digest == second.digest


def test_adapter_and_base_are_both_named(bare_encoder: Path, adapter: Path, tmp_path: Path) -> None:
    options = ("--precision", "fp32", "--out", tmp_path / "out", "--name", "mine")
    assert export("--model", bare_encoder, "--adapter", adapter, *options) == 0
    manifest = open_model(tmp_path / "out").manifest
    assert manifest.name == "mine"
    assert manifest.base.name == "bare"
    assert manifest.adapter is not None
    assert manifest.adapter.name == "tiny-lora"


def test_mistakes_are_one_line_and_leave_the_target_alone(
    cross_encoder: CrossEncoder,
    bare_encoder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    bert = cross_encoder("bert")
    for options, said in (
        (("--model", bare_encoder, "--precision", "fp32"), "not a cross-encoder"),
        (("--model", bert, "--precision", "fp32", "--instruction", "x"), "no --instruction"),
        (("--model", bert, "--precision", "fp32", "--max-tokens", "999"), "reads 160 at most"),
        (("--model", bert, "--precision", "int8", "--calibration", "none"), "can't be read"),
        (("--model", bert, "--precision", "int8", "--data", "none"), "none is not a folder"),
        (("--model", bert, "--precision", "int8", "--max-tokens", "8"), "too few queries"),
    ):
        assert export(*options, "--out", out) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ")
        assert said in error
    assert list(tmp_path.iterdir()) == []


def test_help_loads_no_torch() -> None:
    code = (
        "import sys; from export.__main__ import main\n"
        "try: main(['model', '--help'])\n"
        "except SystemExit: assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True)
