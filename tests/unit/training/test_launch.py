"""The shipped configurations of `accelerate launch`, and a training of two processes on CPUs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("torch")

from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import (
    _validate_launch_command,
    launch_command_parser,
    prepare_multi_gpu_env,
)
from accelerate.utils import DeepSpeedPlugin, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env

from tests.services.process import free_ports
from tests.unit.export.tiny_cross_encoder import write_cross_encoder
from tests.unit.training.lessons import write_lessons
from training.finetune import start as starts

LAUNCH = Path("training/launch")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("multi_gpu", "MULTI_GPU"), ("fsdp", "FSDP"), ("deepspeed", "DEEPSPEED")],
)
def test_accelerate_takes_each_configuration(name: str, kind: str) -> None:
    found = load_config_from_file(str(LAUNCH / f"{name}.yaml"))

    assert found.distributed_type.value == kind
    assert found.num_processes == 2


def test_fsdp_settings_become_a_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--config_file", str(LAUNCH / "fsdp.yaml"), "-m", "training", "train"]
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    for name, value in prepare_multi_gpu_env(arguments).items():
        monkeypatch.setenv(name, value)

    plugin = FullyShardedDataParallelPlugin()

    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"


def test_deepspeed_settings_are_those_of_its_plugin() -> None:
    config = yaml.safe_load((LAUNCH / "deepspeed.yaml").read_text())["deepspeed_config"]
    # Names in the file that the plugin spells otherwise.
    spelt = {"zero3_init_flag", "zero_stage", "gradient_accumulation_steps", "gradient_clipping"}
    spelt |= {"offload_optimizer_device", "offload_param_device"}

    assert set(config) == spelt
    assert spelt <= set(DeepSpeedPlugin.__dataclass_fields__)
    assert config["zero_stage"] in (1, 2, 3)


def test_deepspeed_takes_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "the extra [deepspeed] is not installed"
    deepspeed = pytest.importorskip("deepspeed.runtime.config", reason=reason)
    words = ["--config_file", str(LAUNCH / "deepspeed.yaml"), "-m", "training", "train"]
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    names = yaml.safe_load((LAUNCH / "deepspeed.yaml").read_text())["deepspeed_config"]
    arguments.deepspeed_fields_from_accelerate_config = ",".join(names)
    _, environment = prepare_deepspeed_cmd_env(arguments)
    for name, value in environment.items():
        if name.startswith("ACCELERATE_"):
            monkeypatch.setenv(name, value)

    config = DeepSpeedPlugin().deepspeed_config
    batch = {"train_batch_size": 16, "train_micro_batch_size_per_gpu": 16}  # what `auto` becomes
    found = deepspeed.DeepSpeedConfig({**config, **batch, "steps_per_print": 1})

    assert found.zero_config.stage == 2
    assert found.gradient_clipping == 1.0
    assert found.zero_config.offload_optimizer.device == "none"


@pytest.mark.long
def test_two_processes_train_one_model(tmp_path: Path) -> None:
    base = write_cross_encoder(tmp_path / "base")
    run = write_lessons(tmp_path / "run")
    plan = tmp_path / "plan.yaml"
    fields = {"base": str(base), "epochs": 8, "evaluate_every": 10, "learning_rate": 0.005}
    plan.write_text(yaml.safe_dump({"train": fields}))
    command = ["-m", "training", "train", "--plan", str(plan), "--run", str(run)]
    # `accelerate launch` starts several processes for GPUs only; on CPUs they are told by hand.
    common = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "WORLD_SIZE": "2"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_ports(1)[0])}

    processes = [
        subprocess.Popen(
            [sys.executable, *command],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]

    said = [process.communicate(timeout=800)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert "step 20/28" in said[0]  # half as many as one process needs
    assert starts.load(str(run / "model"), None).family == "bert"
    assert not (run / "model.work").exists()
