"""The end of a training: the best weights become a checkpoint that export takes."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file

from export.checkpoint import ADAPTER_WEIGHTS, open_adapter
from export.fusion import FUSION_FILE
from export.instruction import write_instruction
from export.merge import load_merged
from schemas.manifests import Fusion
from training.finetune import start as starts
from training.finetune.encoder import EngineCrossEncoder
from training.plan_model import TrainPlan
from training.run_folder import sync, write_done, write_json

ADAPTER = "adapter"
BASE = "base"
HISTORY = "history.json"


def lora_config(plan: TrainPlan, start: starts.Start) -> LoraConfig:
    """Return the adapter's shape; a classifier's head is trained whole. Raises FinetuneError."""
    return LoraConfig(
        task_type="CAUSAL_LM" if start.checkpoint.is_decoder else "SEQ_CLS",
        r=plan.lora.rank,
        lora_alpha=plan.lora.alpha,
        lora_dropout=plan.lora.dropout,
        target_modules=starts.targets(start, plan.lora.target_modules),
        modules_to_save=starts.heads(start) or None,
    )


@dataclass(frozen=True)
class Finished:
    """What goes into the folder; `model` has the best weights."""

    plan: TrainPlan
    start: starts.Start
    model: EngineCrossEncoder
    summary: dict[str, Any]
    history: list[dict[str, float]]
    fusion: Fusion | None


def finish(made: Finished, work: Path, final: Path, inputs: dict[str, str]) -> None:
    """Write the merged checkpoint, with the adapter beside it, and rename it to `final`."""
    out = work / "finished"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    if made.plan.method == "lora":
        _save_adapter(made.plan, made.start, made.model, out / ADAPTER)
        # Loaded as export loads it: what is served is what these files hold.
        checkpoint, _ = starts.find(str(work / BASE), None)
        load_merged(checkpoint, open_adapter(out / ADAPTER)).save_pretrained(out)
    else:
        assert made.model.transformers_model is not None, "the encoder was opened"
        made.model.transformers_model.save_pretrained(out)
    starts.write_beside_weights(made.start, out)
    write_json(out / HISTORY, made.history)
    if made.fusion is not None:
        write_json(out / FUSION_FILE, made.fusion.model_dump(mode="json"))
    made.summary["model"] = starts.find(str(out), None)[0].source.digest
    write_done(out, inputs, made.summary)
    sync(out)
    shutil.rmtree(final, ignore_errors=True)
    out.replace(final)
    shutil.rmtree(work)


def _save_adapter(
    plan: TrainPlan, start: starts.Start, model: EngineCrossEncoder, out: Path
) -> None:
    """Write PEFT's format, with names as in a model that PEFT wrapped itself."""
    network = model.transformers_model
    assert network is not None, "the encoder was opened"
    out.mkdir(parents=True)
    state = get_peft_model_state_dict(network, adapter_name="default")
    named = {
        f"base_model.model.{name}": weight.detach().cpu().contiguous()
        for name, weight in state.items()
    }
    save_file(named, out / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    config = lora_config(plan, start)
    config.base_model_name_or_path = start.base.name
    config.inference_mode = True
    config.save_pretrained(str(out))
    if start.instruction is not None:
        write_instruction(out, start.instruction)
