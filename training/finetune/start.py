"""The model that training begins with: base and adapter merged, cut to fewer layers if asked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from engine.pairs import PairEncoder
from export.adapters import family_of
from export.checkpoint import (
    Adapter,
    Checkpoint,
    default_checkpoint,
    open_adapter,
    open_checkpoint,
    require_cross_encoder,
)
from export.errors import CheckpointError
from export.instruction import instruction_for, write_instruction
from export.merge import load_merged
from export.pair_template import load_tokenizer, write_tokenizer
from schemas.manifests import Source
from training.finetune.errors import FinetuneError
from training.plan_model import DEFAULT_MODEL
from training.run_folder import written_beside

# Of the linear layers of each family, those of attention and of the feed-forward part.
_BERT = ("query", "key", "value", "dense")
TARGETS = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "electra": _BERT,
    "distilbert": ("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"),
    "mpnet": ("q", "k", "v", "o", "dense"),
    "deberta-v2": ("query_proj", "key_proj", "value_proj", "dense"),
    "modernbert": ("Wqkv", "Wo", "Wi"),
    "qwen3": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
}
# Any other family: every linear layer but the head.
ALL_LINEAR = "all-linear"
# Where a decoder says its words with the table that it reads them by, one changes the other.
_WORDS = ("lm_head", "embed_tokens")


@dataclass(frozen=True)
class Start:
    """Weights to begin with, their tokenizer, and where both came from.

    `checkpoint` has the configuration of `network`; `instruction` is what a decoder judges by.
    """

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    checkpoint: Checkpoint
    adapter: Source | None
    instruction: str | None

    @property
    def base(self) -> Source:
        """The checkpoint, before the adapter was merged."""
        return self.checkpoint.source

    @property
    def family(self) -> str:
        """The architecture family, such as `bert`."""
        return self.checkpoint.family


def find(base: str, adapter: Path | None) -> tuple[Checkpoint, Adapter | None]:
    """Find the checkpoint, without loading weights; raises CheckpointError."""
    found = None if adapter is None else open_adapter(adapter)
    if base != DEFAULT_MODEL:
        return open_checkpoint(base), found
    checkpoint, own = default_checkpoint(with_adapter=found is None)
    return checkpoint, found or own


def find_trainable(base: str, adapter: Path | None) -> tuple[Checkpoint, Adapter | None]:
    """Find a checkpoint that can be trained; raises CheckpointError, FinetuneError."""
    checkpoint, found = find(base, adapter)
    if found is None:
        require_cross_encoder(checkpoint)
    return checkpoint, found


def load(
    base: str,
    adapter: Path | None,
    keep_layers: Sequence[int] | None = None,
    instruction: str | None = None,
) -> Start:
    """Load what `find_trainable` finds; raises CheckpointError, FinetuneError.

    Only decoders take an `instruction`; None is the one that it was trained with, or its card's.
    """
    checkpoint, found = find_trainable(base, adapter)
    wished = instruction if checkpoint.is_decoder else None
    chosen = instruction_for(wished, checkpoint, found)
    family = family_of(checkpoint, chosen)
    tokenizer = load_tokenizer(checkpoint)
    network = load_merged(checkpoint, found)
    family.network(network, tokenizer)  # refuses a decoder that can't say yes and no
    if keep_layers is not None:
        cut_layers(network, keep_layers)
    own = replace(checkpoint, config=network.config.to_dict())
    return Start(network, tokenizer, own, found.source if found else None, chosen)


def cut_layers(network: PreTrainedModel, keep: Sequence[int]) -> None:
    """Keep these layers only, counted from 0, in that order: a student that begins as its teacher.

    Raises FinetuneError.
    """
    depth = int(network.config.num_hidden_layers)
    if not keep or not all(0 <= number < depth for number in keep):
        raise FinetuneError(f"train.keep_layers: the model has layers 0 to {depth - 1}")
    for parent in network.modules():
        for name, child in parent.named_children():
            if isinstance(child, torch.nn.ModuleList) and len(child) == depth:
                setattr(parent, name, torch.nn.ModuleList(child[number] for number in keep))
                network.config.num_hidden_layers = len(keep)
                if getattr(network.config, "layer_types", None):
                    kinds = network.config.layer_types
                    network.config.layer_types = [kinds[number] for number in keep]
                return
    raise FinetuneError("train.keep_layers: no list of layers was found in this model")


def targets(start: Start, chosen: Sequence[str] | None) -> list[str] | str:
    """Return the names of the linear layers that get an adapter; raises FinetuneError."""
    if chosen is not None:
        words = [name for name in chosen if name.split(".")[-1] in _WORDS]
        if start.checkpoint.is_decoder and words:
            raise FinetuneError(
                "train.lora.target_modules: a decoder's lm_head and embed_tokens may be one table: "
                f"leave out {', '.join(words)}"
            )
        return list(chosen)
    return list(TARGETS[start.family]) if start.family in TARGETS else ALL_LINEAR


def heads(start: Start) -> list[str]:
    """Return the parts on top of the encoder: they are trained whole, and kept with the adapter.

    A decoder has none: what it says yes and no with knows both words already.
    """
    if start.checkpoint.is_decoder:
        return []
    return [
        name
        for name, child in start.network.named_children()
        if name != start.network.base_model_prefix and any(True for _ in child.parameters())
    ]


def pair_encoder(
    start: Start, max_tokens: int, tokenizer_json: Path, setting: str = "train.max_tokens"
) -> PairEncoder:
    """Return the engine's own way of building pairs, proved to be the tokenizer's.

    It is the one that export gives to the bundle. Writes `tokenizer_json`. Raises CheckpointError,
    FinetuneError where `max_tokens`, which `setting` names, doesn't suit the model.
    """
    family = family_of(start.checkpoint, start.instruction)
    write_tokenizer(start.tokenizer, tokenizer_json)
    try:
        template = family.template(start.tokenizer, start.checkpoint, max_tokens)
    except CheckpointError as error:
        raise FinetuneError(str(error).replace("--max-tokens", setting)) from None
    family.prove(start.tokenizer, template, tokenizer_json)
    return PairEncoder.load(tokenizer_json, template)


def write(start: Start, folder: Path) -> None:
    """Write the checkpoint as Hugging Face's libraries read it, whole, unless it is there."""
    if folder.is_dir():
        return
    with written_beside(folder) as beside:
        start.network.save_pretrained(beside)
        write_beside_weights(start, beside)


def write_beside_weights(start: Start, folder: Path) -> None:
    """Write the tokenizer, and what a decoder judges by."""
    start.tokenizer.save_pretrained(folder)
    if start.instruction is not None:
        write_instruction(folder, start.instruction)
