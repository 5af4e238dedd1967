"""A training that is killed, and one that is started by accelerate."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

pytest.importorskip("torch")

from tests.unit.export.tiny_cross_encoder import write_cross_encoder
from tests.unit.training.lessons import write_lessons
from training.finetune.step import train
from training.plan import Plan, load_plan

_TIMEOUT_S = 400.0
# Trains a little past its first checkpoint and no further: whoever is to kill it may be slow.
_STAND_STILL = """
import sys, time
from training.__main__ import main
from training.finetune.trainer import Reporter
on_step_end = Reporter.on_step_end
def stand_still(self, args, state, control, **more):
    on_step_end(self, args, state, control, **more)
    if state.global_step > 20:
        time.sleep(3600)
Reporter.on_step_end = stand_still
sys.exit(main(sys.argv[1:]))
"""


def write_plan(folder: Path, base: Path) -> Path:
    fields = {"base": str(base), "epochs": 100, "max_steps": 80, "evaluate_every": 20}
    plan = {"train": fields | {"patience": 99, "learning_rate": 0.005}}
    file = folder / "plan.yaml"
    file.write_text(yaml.safe_dump(plan))
    return file


def start(plan: Path, run: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", _STAND_STILL, "train", "--plan", str(plan), "--run", str(run)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def wait_for(path: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while not path.exists():
        assert process.poll() is None, (process.communicate()[1] or b"").decode()
        assert time.monotonic() < deadline, f"{path} did not come into being"
        time.sleep(0.02)


@pytest.mark.slow
def test_a_killed_training_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    base = write_cross_encoder(tmp_path / "base")
    plan = write_plan(tmp_path, base)
    run = write_lessons(tmp_path / "killed")
    process = start(plan, run)
    wait_for(run / "model.work" / "checkpoint-20", process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=_TIMEOUT_S)
    assert process.returncode == -signal.SIGKILL
    assert not (run / "model").exists()
    parsed: Plan = load_plan(plan)

    resumed = train(parsed.train, run)
    straight = train(parsed.train, write_lessons(tmp_path / "straight"))

    assert resumed["model"] == straight["model"]
    assert resumed["dev"] == straight["dev"]
    assert resumed["steps"] == straight["steps"]
    history = json.loads((run / "model" / "history.json").read_bytes())
    assert [entry["step"] for entry in history if "loss" in entry] == [20, 40, 60, 80]
