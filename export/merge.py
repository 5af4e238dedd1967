"""Step 2: loads the weights in fp32, with the adapter merged into them."""

import re
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)
from transformers.utils import logging

from export.checkpoint import ADAPTER_WEIGHTS, Adapter, Checkpoint, require_cross_encoder
from export.errors import CheckpointError


def load_merged(checkpoint: Checkpoint, adapter: Adapter | None) -> PreTrainedModel:
    """Return the model in fp32, for inference, with every weight from a file and one logit.

    A classifier with two labels becomes one whose logit is the second's minus the first's.
    Raises CheckpointError where a weight is in neither the checkpoint nor the adapter: it would
    be random.
    """
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if adapter is None:
        require_cross_encoder(checkpoint)
    model, missing = _load_base(checkpoint)
    if adapter is not None:
        missing -= _saved_whole(adapter)
        model = _merge(model, adapter)
    if missing:
        names = ", ".join(sorted(missing)[:3])
        raise CheckpointError(f"{checkpoint.source.name} has no weights for {names}")
    if checkpoint.labels == 2 and not checkpoint.is_decoder:
        subtract_labels(model)
    model.train(mode=False)
    return model


def subtract_labels(model: PreTrainedModel) -> None:
    """Make the last product with two outputs one whose output is the second minus the first."""
    heads = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module.out_features == 2
    ]
    if not heads:
        raise CheckpointError("the model has two labels, but no linear head that gives them")
    head = heads[-1]
    with torch.no_grad():
        head.weight = torch.nn.Parameter(head.weight[1:] - head.weight[:1])
        if head.bias is not None:
            head.bias = torch.nn.Parameter(head.bias[1:] - head.bias[:1])
    head.out_features = 1
    model.config.num_labels = 1


def _load_base(checkpoint: Checkpoint) -> tuple[PreTrainedModel, set[str]]:
    trust = checkpoint.trusted
    try:
        if checkpoint.is_decoder:
            model_class: Any = AutoModelForCausalLM
            config = AutoConfig.from_pretrained(checkpoint.path, trust_remote_code=trust)
        else:
            model_class = AutoModelForSequenceClassification
            config = AutoConfig.from_pretrained(
                checkpoint.path, num_labels=checkpoint.labels, trust_remote_code=trust
            )
        model, report = model_class.from_pretrained(
            checkpoint.path,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=trust,
        )
    except (ValueError, OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{checkpoint.source.name} can't be loaded: {reason}") from error
    return model, set(report["missing_keys"])


def _merge(model: PreTrainedModel, adapter: Adapter) -> PreTrainedModel:
    try:
        merged: Any = PeftModel.from_pretrained(model, str(adapter.path)).merge_and_unload()
    except (ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"adapter {adapter.path} doesn't fit the model: {reason}") from error
    return merged  # type: ignore[no-any-return]


def _saved_whole(adapter: Adapter) -> set[str]:
    """Return the names of weights that the adapter holds whole, such as those of the head."""
    with safe_open(adapter.path / ADAPTER_WEIGHTS, framework="pt") as file:
        names = [str(name) for name in file.keys()]  # noqa: SIM118 - not a mapping
    return {re.sub(r"^base_model\.model\.", "", name) for name in names if ".lora_" not in name}
