"""The model that training begins with: base and adapter merged, cut to fewer layers if asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from engine.bundles import sha256_of
from engine.pairs import PairEncoder
from export.checkpoint import (
    Adapter,
    Checkpoint,
    default_checkpoint,
    open_adapter,
    open_checkpoint,
    require_cross_encoder,
)
from export.merge import load_merged
from export.pair_template import derive_template, load_tokenizer, prove_template, write_tokenizer
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
}
# Any other family: every linear layer but the head.
ALL_LINEAR = "all-linear"


@dataclass(frozen=True)
class Start:
    """Weights to begin with, their tokenizer, and where both came from."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    base: Source
    adapter: Source | None

    @property
    def family(self) -> str:
        """The architecture family, such as `bert`."""
        return str(self.network.config.model_type)


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
    if checkpoint.is_decoder:
        raise FinetuneError(f"{base} is a decoder: only sequence classifiers with one label train")
    if found is None:
        require_cross_encoder(checkpoint)
    return checkpoint, found


def load(base: str, adapter: Path | None, keep_layers: Sequence[int] | None = None) -> Start:
    """Load what `find_trainable` finds; raises CheckpointError, FinetuneError."""
    checkpoint, found = find_trainable(base, adapter)
    network = load_merged(checkpoint, found)
    if keep_layers is not None:
        cut_layers(network, keep_layers)
    return Start(
        network, load_tokenizer(checkpoint), checkpoint.source, found.source if found else None
    )


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
                return
    raise FinetuneError("train.keep_layers: no list of layers was found in this model")


def targets(start: Start, chosen: Sequence[str] | None) -> list[str] | str:
    """Return the names of the linear layers that get an adapter."""
    if chosen is not None:
        return list(chosen)
    return list(TARGETS[start.family]) if start.family in TARGETS else ALL_LINEAR


def heads(network: PreTrainedModel) -> list[str]:
    """Return the parts on top of the encoder: they are trained whole, and kept with the adapter."""
    return [
        name
        for name, child in network.named_children()
        if name != network.base_model_prefix and any(True for _ in child.parameters())
    ]


def pair_encoder(start: Start, max_tokens: int, tokenizer_json: Path) -> PairEncoder:
    """Return the engine's own way of building pairs, proved to be the tokenizer's.

    Writes `tokenizer_json`. Raises CheckpointError.
    """
    write_tokenizer(start.tokenizer, tokenizer_json)
    template = derive_template(start.tokenizer, start.network.config.to_dict(), max_tokens)
    prove_template(start.tokenizer, template, tokenizer_json)
    return PairEncoder.load(tokenizer_json, template)


def write(start: Start, folder: Path) -> None:
    """Write the checkpoint as Hugging Face's libraries read it, whole, unless it is there."""
    if folder.is_dir():
        return
    with written_beside(folder) as beside:
        start.network.save_pretrained(beside)
        start.tokenizer.save_pretrained(beside)


def digest_of_weights(folder: Path) -> str:
    """Return the digest that names a checkpoint: that of its weight file."""
    return sha256_of(folder / "model.safetensors")
