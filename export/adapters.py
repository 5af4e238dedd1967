"""One adapter per family of models: how pairs are built, and how the fp32 graph is made.

The family is `model_type` of `config.json`. Families that are not listed are tried as plain
classifiers, which Optimum exports or refuses.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import onnx
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from engine.pairs import PairEncoder
from export import decoder, fp32, trimmed
from export.checkpoint import Checkpoint
from export.decoder import INSTRUCTION, YesNoReranker
from export.errors import CheckpointError
from export.families import encoder_of
from export.pair_template import PROOFS, derive_template, longest_pair, prove_template
from export.quantize.sites import name_nodes
from schemas.manifests import PairTemplate

Network = PreTrainedModel | YesNoReranker


@dataclass(frozen=True)
class Fp32Graph:
    """A graph whose nodes have names, the recipe that made it, and optimizers to leave out."""

    model: onnx.ModelProto
    recipe: str
    disabled_optimizers: tuple[str, ...] = ()


class Family(Protocol):
    """What is particular to a family."""

    def network(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Network:
        """Return what gives the logit of ids in PyTorch, to compare with."""

    def template(
        self, tokenizer: PreTrainedTokenizerFast, checkpoint: Checkpoint, max_tokens: int | None
    ) -> PairTemplate:
        """Return how the family builds pairs; raises CheckpointError."""

    def prove(
        self, tokenizer: PreTrainedTokenizerFast, template: PairTemplate, tokenizer_json: Path
    ) -> None:
        """Raise CheckpointError unless the engine's pairs are the tokenizer's own."""

    def graph(self, network: Network) -> Fp32Graph:
        """Return the fp32 graph that suits the CPU best."""

    def plain_graph(self, network: Network, *, mask: bool = False) -> Fp32Graph:
        """Return the fp32 graph of standard operators, which GPUs know.

        With `mask` it takes one, where the family can do with padding behind a sequence.
        """


class Classifier:
    """A sequence classifier of any family: by Optimum."""

    def network(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Network:  # noqa: ARG002
        """See `Family`."""
        return model

    def template(
        self, tokenizer: PreTrainedTokenizerFast, checkpoint: Checkpoint, max_tokens: int | None
    ) -> PairTemplate:
        """See `Family`."""
        return derive_template(tokenizer, checkpoint.config, max_tokens)

    def prove(
        self, tokenizer: PreTrainedTokenizerFast, template: PairTemplate, tokenizer_json: Path
    ) -> None:
        """See `Family`."""
        prove_template(tokenizer, template, tokenizer_json)

    def graph(self, network: Network) -> Fp32Graph:
        """See `Family`."""
        return self.plain_graph(network)

    def plain_graph(self, network: Network, *, mask: bool = False) -> Fp32Graph:
        """See `Family`."""
        assert isinstance(network, PreTrainedModel)
        return _named(fp32.simplified(fp32.optimum_graph(network), mask=mask), fp32.RECIPE)


class TrimmedClassifier(Classifier):
    """A classifier whose graph is made by hand, where its configuration is a plain one."""

    def graph(self, network: Network) -> Fp32Graph:
        """See `Family`."""
        assert isinstance(network, PreTrainedModel)
        weights = encoder_of(network)
        if weights is None:
            return self.plain_graph(network)
        return Fp32Graph(trimmed.build(weights), trimmed.RECIPE, trimmed.DISABLED_OPTIMIZERS)


@dataclass(frozen=True)
class Decoder:
    """A language model that answers yes or no."""

    instruction: str = INSTRUCTION

    def network(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Network:
        """See `Family`."""
        return decoder.reranker_of(model, tokenizer)

    def template(
        self, tokenizer: PreTrainedTokenizerFast, checkpoint: Checkpoint, max_tokens: int | None
    ) -> PairTemplate:
        """See `Family`."""
        size = longest_pair(tokenizer, checkpoint.config, max_tokens)
        return decoder.chat_template(tokenizer, size, self.instruction)

    def prove(
        self, tokenizer: PreTrainedTokenizerFast, template: PairTemplate, tokenizer_json: Path
    ) -> None:
        """See `Family`."""
        encoder = PairEncoder.load(tokenizer_json, template)
        decoder.prove_chat_template(tokenizer, encoder, self.instruction, PROOFS)

    def graph(self, network: Network) -> Fp32Graph:
        """See `Family`."""
        return self.plain_graph(network)

    def plain_graph(self, network: Network, *, mask: bool = False) -> Fp32Graph:  # noqa: ARG002
        """See `Family`; it reads the last token, which must not be padding."""
        assert isinstance(network, YesNoReranker)
        return _named(fp32.simplified(decoder.decoder_graph(network)), decoder.RECIPE)


FAMILIES: Mapping[str, Family] = {
    "bert": TrimmedClassifier(),
    "electra": TrimmedClassifier(),
    "roberta": TrimmedClassifier(),
    "xlm-roberta": TrimmedClassifier(),
    "camembert": TrimmedClassifier(),
    "deberta-v2": Classifier(),
    "modernbert": Classifier(),
    "qwen3": Decoder(),
}


def family_of(checkpoint: Checkpoint, instruction: str | None = None) -> Family:
    """Return the adapter for a checkpoint; raises CheckpointError."""
    family = FAMILIES.get(checkpoint.family, Classifier())
    if isinstance(family, Decoder):
        if not checkpoint.is_decoder:
            raise CheckpointError(
                f"{checkpoint.source.name} is a {checkpoint.family} model without its output "
                "embedding: only those for causal language modelling can be exported"
            )
        return Decoder(instruction or family.instruction)
    if instruction is not None:
        raise CheckpointError(
            f"models of the family {checkpoint.family} read no --instruction: leave it out"
        )
    return family


def _named(model: onnx.ModelProto, recipe: str) -> Fp32Graph:
    name_nodes(model)
    return Fp32Graph(model, recipe)
