"""The fastest batches end up in the manifest, and change no score."""

import json
import os
import shutil
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from engine.batches import BatchSize
from engine.bundles import Bundle, open_model
from engine.devices import batch_sizes, open_lanes
from engine.pairs import EncodedPair
from export import tune
from export.__main__ import main
from export.tune_grid import Choice, Grid, choose
from schemas.manifests import Batches, BatchStep, ModelManifest
from tests.fakes.graph import FakeGraph
from tests.unit.engine.tiny_encoder import LONGEST, WORDS, write_tiny_encoder

DEFAULT, LARGER, SMALLER = BatchSize(), BatchSize(64, 1024), BatchSize(16, 256)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def bundle(tiny: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny, tmp_path / "bundle")


def choices(*sizes: BatchSize, gain: float = 1.1) -> list[Choice]:
    ends = (16, 32, 64, LONGEST)
    return [
        Choice(end, size, 2.0, 1.0, 1.0 if size == DEFAULT else gain)
        for end, size in zip(ends, sizes, strict=True)
    ]


def finds(monkeypatch: pytest.MonkeyPatch, *sizes: BatchSize) -> None:
    """Have the command find these instead of what the machine happens to be good at."""
    monkeypatch.setattr(tune, "measure", lambda *_: choices(*sizes))


def run(*arguments: str | Path) -> int:
    return main(["tune", *map(str, arguments)])


def logits(bundle: Bundle[ModelManifest]) -> list[float]:
    chance = np.random.default_rng(1)
    pairs = [
        EncodedPair(chance.integers(0, WORDS, length).astype(np.int32), 3, False)
        for length in [*chance.integers(4, LONGEST + 1, 100), *[9] * 90, *[LONGEST] * 40]
    ]
    lanes = open_lanes(bundle, "cpu", 2)
    found: list[float] = lanes.submit(pairs).result(60).tolist()
    lanes.close()
    return found


def test_a_real_run_leaves_a_bundle_that_scores_the_same(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = open_model(bundle)
    assert run("--model-bundle", bundle, "--rounds", "1", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    after = open_model(bundle)
    assert [each["tokens"] for each in found["lengths"]] == [16, 32, 64, LONGEST]
    assert (found["digest_before"], found["digest"]) == (before.digest, after.digest)
    assert logits(after) == logits(before)


def test_what_is_faster_is_kept_and_used_and_scores_the_same(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = open_model(bundle)
    expected = logits(before)
    finds(monkeypatch, LARGER, LARGER, DEFAULT, SMALLER)

    assert run("--model-bundle", bundle) == 0

    after = open_model(bundle)
    assert after.digest != before.digest
    assert after.digest in capsys.readouterr().out
    rows = {length: batch_sizes(after.manifest, "cpu").rows_of(length) for length in (9, 32, 64)}
    assert rows == {9: 64, 32: 32, 64: 8}
    assert batch_sizes(after.manifest, "cpu").rows_of(LONGEST) == 2
    (table,) = after.manifest.batches or ()
    assert [step.tokens for step in table.steps] == [32, 64, LONGEST]  # one for both of a kind
    assert logits(after) == expected
    assert [file.name for file in bundle.iterdir() if file.name.startswith(".")] == []


def test_a_bundle_without_anything_faster_stays_as_it_is(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = (bundle / "manifest.json").read_bytes()
    finds(monkeypatch, DEFAULT, DEFAULT, DEFAULT, DEFAULT)
    assert run("--model-bundle", bundle) == 0
    assert (bundle / "manifest.json").read_bytes() == manifest
    assert "stays" in capsys.readouterr().out


def test_the_same_again_changes_nothing_and_the_default_again_brings_the_old_digest_back(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untuned = open_model(bundle).digest
    finds(monkeypatch, LARGER, DEFAULT, DEFAULT, DEFAULT)
    run("--model-bundle", bundle)
    once = open_model(bundle).digest
    monkeypatch.setattr(tune, "machine", lambda: "another machine")
    run("--model-bundle", bundle)
    assert open_model(bundle).digest == once != untuned
    finds(monkeypatch, DEFAULT, DEFAULT, DEFAULT, DEFAULT)
    run("--model-bundle", bundle)
    assert open_model(bundle).digest == untuned


def test_other_devices_and_unknown_fields_stay(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = bundle / "manifest.json"
    table = {
        "device": "cuda",
        "machine": "a GPU",
        "steps": [{"tokens": 1, "rows": 1, "batch_tokens": 1}],
    }
    file.write_text(json.dumps(json.loads(file.read_text()) | {"later": 1, "batches": [table]}))
    finds(monkeypatch, LARGER, DEFAULT, DEFAULT, DEFAULT)
    run("--model-bundle", bundle)
    raw = json.loads(file.read_text())
    assert raw["later"] == 1
    assert raw["batches"][0] == table
    assert [each["device"] for each in raw["batches"]] == ["cuda", "cpu"]


def test_with_out_the_first_bundle_stays(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, out = open_model(bundle), tmp_path / "tuned"
    finds(monkeypatch, LARGER, LARGER, LARGER, LARGER)
    assert run("--model-bundle", bundle, "--out", out) == 0
    assert open_model(bundle).digest == before.digest != open_model(out).digest
    assert open_model(out).manifest.files == before.manifest.files
    assert run("--model-bundle", bundle, "--out", out) == 1  # it is there already
    assert run("--model-bundle", bundle, "--out", out, "--force") == 0


def test_an_out_that_is_there_is_said_before_anything_is_measured(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = shutil.copytree(bundle, tmp_path / "tuned")
    measured: list[object] = []

    def measure(*_: object) -> list[Choice]:
        measured.append(None)
        return choices(LARGER, LARGER, LARGER, LARGER)

    monkeypatch.setattr(tune, "measure", measure)
    assert run("--model-bundle", bundle, "--out", out) == 1
    assert f"{out} exists already: add --force" in capsys.readouterr().err
    assert measured == []
    assert run("--model-bundle", bundle, "--out", out, "--dry-run") == 0
    assert run("--model-bundle", bundle, "--out", bundle) == 0
    assert run("--model-bundle", bundle, "--out", out, "--force") == 0
    assert len(measured) == 3


def test_dry_run_writes_nothing(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = (bundle / "manifest.json").read_bytes()
    finds(monkeypatch, LARGER, LARGER, LARGER, LARGER)
    assert run("--model-bundle", bundle, "--dry-run") == 0
    assert (bundle / "manifest.json").read_bytes() == manifest
    assert "nothing was written" in capsys.readouterr().out


def test_a_manifest_that_cannot_be_replaced_stays_whole(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = (bundle / "manifest.json").read_bytes()
    finds(monkeypatch, LARGER, LARGER, LARGER, LARGER)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert run("--model-bundle", bundle) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert (bundle / "manifest.json").read_bytes() == manifest
    assert sorted(file.name for file in bundle.iterdir()) == sorted(
        ["manifest.json", "model.onnx", "tokenizer.json"]
    )


@pytest.mark.parametrize("option", ["--rounds", "--max-tokens"])
@pytest.mark.parametrize("number", ["0", "-1"])
def test_no_rounds_and_no_tokens_are_mistakes(
    bundle: Path, option: str, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--model-bundle", bundle, option, number) == 1
    assert f"error: {option} must be at least 1\n" == capsys.readouterr().err


def test_a_graph_whose_rows_depend_on_one_another_is_refused(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def graph(ids: "np.ndarray[tuple[int, int], np.dtype[np.int64]]", _: object) -> object:
        return np.full(len(ids), len(ids), dtype=np.float32)

    monkeypatch.setattr(tune, "open_graph", lambda *_: graph)
    manifest = (bundle / "manifest.json").read_bytes()
    assert run("--model-bundle", bundle, "--rounds", "1") == 1
    assert "scores otherwise than alone" in capsys.readouterr().err
    assert (bundle / "manifest.json").read_bytes() == manifest


def test_a_batch_is_timed_as_often_as_the_largest_has_rows() -> None:
    graph = FakeGraph()
    seconds = count()
    grid = Grid(graph, DEFAULT, 32, 50, 1024, lambda: float(next(seconds)))
    assert grid.lengths == [16, 32]
    assert [size.rows_of(16) for size in grid.sizes(16)] == [32, 8, 16, 64]
    found = grid.time(2)
    assert {len(taken) for sizes in found.values() for taken in sizes.values()} == {2}
    assert len(graph.rows) == 3 * (4 * 64 + 4 * 32)


def test_one_row_is_tried_however_long_it_is() -> None:
    grid = Grid(FakeGraph(), DEFAULT, 4096, 50, 256, lambda: 0.0)
    assert grid.lengths[-1] == 512
    assert [size.rows_of(512) for size in grid.sizes(512)] == [1]


def times(*values: float) -> Sequence[float]:
    return values


@pytest.mark.parametrize(
    ("larger", "chosen"),
    [
        (times(0.9, 0.91, 0.9, 0.92), LARGER),
        (times(0.99, 0.99, 0.99, 0.99), DEFAULT),  # too little to be worth a new digest
        (times(0.8, 0.8, 1.1, 1.1), DEFAULT),  # now faster, now slower
        (times(1.2, 1.2, 1.2, 1.2), DEFAULT),
    ],
)
def test_only_what_is_faster_beyond_noise_is_chosen(
    larger: Sequence[float], chosen: BatchSize
) -> None:
    default = times(1.0, 1.0, 1.0, 1.0)
    found = choose(16, {DEFAULT: default, LARGER: larger, SMALLER: times(1.0, 1.0, 1.0, 1.0)})
    assert found.size == chosen
    assert (found.gain > 1) == (chosen != DEFAULT)


def test_the_fastest_of_two_is_chosen() -> None:
    seconds = {DEFAULT: times(1.0, 1.0), LARGER: times(0.9, 0.9), SMALLER: times(0.8, 0.8)}
    assert choose(16, seconds).size == SMALLER


def test_inspect_shows_the_batches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = BatchStep(tokens=64, rows=16, batch_tokens=1024)
    table = Batches(device="cpu", machine="a machine", steps=(step,))
    out = write_tiny_encoder(tmp_path / "tuned", batches=(table,))
    assert main(["inspect", str(out)]) == 0
    assert "cpu: 16 rows, 1024 tokens up to 64 (a machine)" in capsys.readouterr().out
