# ruff: noqa: PLC0415 - torch is loaded by the tests that need it
"""A smaller model for a cascade: cut from a larger one, and taught by it."""

import json
from pathlib import Path
from typing import Any

import pytest

from export.__main__ import main as export
from tests.unit.export.tiny_cross_encoder import WORDS, write_cross_encoder
from training.__main__ import main as training

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cross_encoder(tmp_path_factory.mktemp("large") / "large")


@pytest.fixture(scope="module")
def bundle(large: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "large"
    assert export(["model", "--model", str(large), "--precision", "fp32", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from training.groups import Group, write_groups

    groups = [
        Group("test", " ".join(WORDS[at % 5 : at % 5 + 3]), texts, [0.0] * 6, [-1] * 6)
        for at in range(40)
        for texts in [[" ".join(WORDS[(at + n) % 9 :]) for n in range(6)]]
    ]
    path = tmp_path_factory.mktemp("data") / "groups.jsonl.gz"
    # A query that leaves no room in training is left out.
    write_groups(
        [*groups, Group("test", "read " * 120, ["line", "fox"], [0.0] * 2, [-1] * 2)], path
    )
    return path


def words(large: Path, bundle: Path, data: Path, out: Path, **more: object) -> list[str]:
    options = {"layers": 1, "epochs": 6, "learning-rate": 3e-3, "threads": 1, **more}
    return [
        "small",
        *(f"--model-bundle={bundle}", f"--data={data}", f"--base={large}", f"--out={out}"),
        *(f"--{name}={value}" for name, value in options.items()),
    ]


def test_it_learns_and_can_be_exported(
    large: Path, bundle: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def rms(epochs: int) -> float:
        out = tmp_path / f"small{epochs}"
        assert training(words(large, bundle, data, out, epochs=epochs)) == 0
        report: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert (report["layers"], report["queries"], report["pairs"]) == (1, 40, 240)
        found: float = report["rms_difference_of_logits"]["held_out"]
        return found

    assert rms(12) < 0.7 * rms(1)
    config = json.loads((tmp_path / "small12" / "config.json").read_text())
    assert config["num_hidden_layers"] == 1
    out = tmp_path / "bundle"
    command = ["model", "--model", str(tmp_path / "small12"), "--precision", "fp32"]
    assert export([*command, "--out", str(out)]) == 0


def test_layers_that_are_not_there_are_one_line(
    large: Path, bundle: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert training(words(large, bundle, data, tmp_path / "out", layers=2)) == 2
    error = capsys.readouterr().err
    assert "--layers 2" in error
    assert "Traceback" not in error


def test_a_folder_that_is_there_is_kept_unless_it_may_be_replaced(
    large: Path, bundle: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = words(large, bundle, data, tmp_path / "out", epochs=1)
    assert training(command) == 0
    weights = (tmp_path / "out" / "model.safetensors").read_bytes()
    capsys.readouterr()

    assert training(command) == 2
    assert "add --replace" in capsys.readouterr().err
    assert training([*command, "--replace", "--seed=2"]) == 0
    assert (tmp_path / "out" / "model.safetensors").read_bytes() != weights

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("kept")
    assert training([*words(large, bundle, data, tmp_path / "mine"), "--replace"]) == 2
    assert "no checkpoint" in capsys.readouterr().err
    assert (tmp_path / "mine" / "notes").read_text() == "kept"
