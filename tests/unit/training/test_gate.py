"""Train, gate and promote as a user calls them, on a tiny model."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

pytest.importorskip("torch")

from engine.bundles import open_model
from export.errors import VerificationError
from export.model_steps import Request, export_model
from tests.unit.export.tiny_cross_encoder import write_cross_encoder
from tests.unit.training.lessons import lesson_rows, write_lessons
from training.__main__ import main
from training.kustomize import PLACEHOLDER
from training.label_rows import LabelRow


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cross_encoder(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def current(base: Path) -> Path:
    export_model(Request("fp32", base.parent / "current", model=str(base)))
    return base.parent / "current"


@pytest.fixture(scope="module")
def trained(base: Path, current: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plan and a run whose model learnt its lesson."""
    folder = tmp_path_factory.mktemp("trained")
    write_plan(folder, base, current)
    write_lessons(folder / "run")
    assert call("train", folder) == 0
    return folder


def write_plan(folder: Path, base: Path, current: Path, **gate: Any) -> Path:
    values = folder / "values.env"
    values.write_text(f"MODEL_DIGEST={PLACEHOLDER}\n")
    slices = {"min_queries": 5}
    speed = {"min_speed": 0.1, "speed_pairs": 32}  # a busy machine is no slower model
    plan = {
        "train": {
            "base": str(base),
            "max_steps": 24,
            "epochs": 4,
            "evaluate_every": 12,
            "learning_rate": 0.005,
        },
        "gate": {
            "current": str(current),
            "precision": "fp32",
            "resamples": 999,
            "slices": slices,
            **speed,
            **gate,
        },
        "promote": {
            "registry": str(folder / "models"),
            "kustomize": str(values),
            "name": "tiny",
        },
    }
    file = folder / "plan.yaml"
    file.write_text(yaml.safe_dump(plan))
    return file


def call(command: str, folder: Path, run: str = "run", *words: str) -> int:
    arguments = [command, "--plan", str(folder / "plan.yaml"), *words]
    if command not in ("registry", "rollback"):
        arguments += ["--run", str(folder / run)]
    try:
        return main(arguments)
    except SystemExit as end:
        return int(str(end.code))


def report_of(folder: Path, run: str = "run") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / run / "gate" / "report.json").read_bytes())
    return found


def copy_of(trained: Path, folder: Path) -> Path:
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    return folder


def test_a_better_model_passes_and_serves(
    trained: Path, base: Path, current: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("gate", trained) == 0

    report = report_of(trained)
    assert report["verdict"] == "pass"
    assert report["measures"]["NDCG@10"]["p"] <= 0.05
    assert report["measures"]["NDCG@10"]["low"] > 0
    assert report["speed"]["ratio"] > 0
    assert {part["slice"] for part in report["slices"]} == {"length short", "script latin"}
    candidate = json.loads((trained / "run" / "gate" / "candidate.json").read_bytes())
    assert candidate["digest"] == open_model(trained / "run" / "gate" / "bundle").digest

    assert call("promote", trained) == 0
    assert (trained / "values.env").read_text() == f"MODEL_DIGEST={candidate['digest']}\n"
    capsys.readouterr()
    assert call("registry", trained, "", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["current"] == candidate["digest"]
    assert listed["changes"][0]["lineage"]["run"] == "run"
    assert call("rollback", trained) == 2  # nothing served before


def test_a_second_gate_says_the_same_without_working(trained: Path, tmp_path: Path) -> None:
    folder = copy_of(trained, tmp_path)
    (folder / "plan.yaml").write_text((trained / "plan.yaml").read_text())
    assert call("gate", folder) == 0
    written = (folder / "run" / "gate" / "report.json").stat().st_mtime_ns

    assert call("gate", folder) == 0

    assert (folder / "run" / "gate" / "report.json").stat().st_mtime_ns == written


def test_labels_by_chance_do_not_pass(
    base: Path, current: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_plan(tmp_path, base, current)
    rng = Random(5)
    truth = lesson_rows()
    by_chance = [
        row if row.split == "test" else replace(row, label=float(rng.random() < 0.25))
        for row in truth
    ]
    write_lessons(tmp_path / "run", by_chance)
    assert call("train", tmp_path) == 0

    assert call("gate", tmp_path) == 3

    assert report_of(tmp_path)["verdict"] == "refused"
    assert "refused: NDCG@10" in capsys.readouterr().err
    assert not (tmp_path / "run" / "gate" / "candidate.json").exists()
    assert call("promote", tmp_path) == 2


def leaky(rows: list[LabelRow]) -> list[LabelRow]:
    """Repeat a training query, in other letters, among the held-out ones."""
    first = [row for row in rows if row.query_id == "q0"]
    copies = [
        replace(row, query_id="copy", query=row.query.upper() + " ", split="test") for row in first
    ]
    return rows + copies


def test_leakage_is_refused(base: Path, current: Path, tmp_path: Path) -> None:
    write_plan(tmp_path, base, current)
    write_lessons(tmp_path / "run", leaky(lesson_rows()))
    assert call("train", tmp_path) == 0

    assert call("gate", tmp_path) == 3

    (reason,) = report_of(tmp_path)["reasons"]
    assert reason.startswith("leakage: 1 held-out queries were trained on")
    assert "8 pairs" in reason


def test_labels_that_changed_after_training_are_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_of(trained, tmp_path)
    write_lessons(folder / "run", lesson_rows(seed=4))

    assert call("gate", folder) == 2

    assert "changed since the model was trained" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ({"min_speed": 50.0}, "pairs a second are"),
        ({"min_gain": 0.99}, "it must rise by more than 0.99"),
    ],
)
def test_each_demand_can_refuse(
    trained: Path, base: Path, current: Path, tmp_path: Path, gate: dict[str, float], reason: str
) -> None:
    folder = copy_of(trained, tmp_path)
    write_plan(folder, base, current, **gate)

    assert call("gate", folder) == 3

    assert any(reason in each for each in report_of(folder)["reasons"])
    assert not (folder / "run" / "gate" / "candidate.json").exists()


def test_what_export_refuses_does_not_pass(
    trained: Path, base: Path, current: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(trained, tmp_path)
    write_plan(folder, base, current, seed=14)

    def refuse(_: Request) -> None:
        raise VerificationError("the quantized model orders documents otherwise")

    monkeypatch.setattr("training.gate.bundle.export_model", refuse)
    assert call("gate", folder) == 3

    (reason,) = report_of(folder)["reasons"]
    assert reason == "export: the quantized model orders documents otherwise"
    assert not (folder / "run" / "gate" / "candidate.json").exists()
