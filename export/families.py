"""Step 4: the weights of an encoder, by what they are for; one function a family of models."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from transformers import PretrainedConfig, PreTrainedModel

Array = NDArray[np.float32]
HeadActivation = Literal["Tanh", "Gelu"]


@dataclass(frozen=True)
class Linear:
    """`x @ weight + bias`: float32 [in, out] and [out]."""

    weight: Array
    bias: Array | None


@dataclass(frozen=True)
class Norm:
    """A layer normalisation over the last axis: float32 [hidden] both."""

    scale: Array
    bias: Array
    epsilon: float


@dataclass(frozen=True)
class Layer:
    """A transformer layer that normalises after each residual."""

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    output_norm: Norm


@dataclass(frozen=True)
class Encoder:
    """A cross-encoder with exact GELU and learned positions.

    words [vocabulary, width], positions [tokens, width] from the first token on, and
    token_types [types, width], where width is hidden unless `projection` leads there.
    The head reads the first token: linear, `head_activation`, linear -> [1].
    """

    words: Array
    positions: Array
    token_types: Array
    embedding_norm: Norm
    layers: tuple[Layer, ...]
    heads: int
    head_hidden: Linear
    head_logit: Linear
    head_activation: HeadActivation = "Tanh"
    projection: Linear | None = None


State = Mapping[str, Array]


def encoder_of(model: PreTrainedModel) -> Encoder | None:
    """Return the weights of a model whose family is known here, else None."""
    config = model.config
    reader = _FAMILIES.get(config.model_type)
    plain = (
        reader is not None
        and config.hidden_act == "gelu"
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
        and not getattr(config, "is_decoder", False)
    )
    if reader is None or not plain:
        return None
    state = {name: tensor.detach().cpu().numpy() for name, tensor in model.state_dict().items()}
    return reader(state, config)


def _bert(state: State, config: PretrainedConfig) -> Encoder:
    head = _linear(state, "bert.pooler.dense"), _linear(state, "classifier")
    return _encoder(state, config, "bert", 0, head)


def _roberta(state: State, config: PretrainedConfig) -> Encoder:
    """RoBERTa and what was made of it: positions are counted from behind the padding id."""
    head = _linear(state, "classifier.dense"), _linear(state, "classifier.out_proj")
    return _encoder(state, config, "roberta", int(config.pad_token_id or 0) + 1, head)


def _electra(state: State, config: PretrainedConfig) -> Encoder:
    """ELECTRA: small ones have words narrower than the layers, and the head has GELU."""
    head = _linear(state, "classifier.dense"), _linear(state, "classifier.out_proj")
    narrow = "electra.embeddings_project.weight" in state
    return replace(
        _encoder(state, config, "electra", 0, head),
        head_activation="Gelu",
        projection=_linear(state, "electra.embeddings_project") if narrow else None,
    )


_FAMILIES: dict[str, Callable[[State, PretrainedConfig], Encoder]] = {
    "bert": _bert,
    "electra": _electra,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
    "camembert": _roberta,
}


def _encoder(
    state: State,
    config: PretrainedConfig,
    root: str,
    first_position: int,
    head: tuple[Linear, Linear],
) -> Encoder:
    tables = f"{root}.embeddings"
    epsilon = float(config.layer_norm_eps)
    return Encoder(
        words=state[f"{tables}.word_embeddings.weight"],
        positions=state[f"{tables}.position_embeddings.weight"][first_position:],
        token_types=state[f"{tables}.token_type_embeddings.weight"],
        embedding_norm=_norm(state, f"{tables}.LayerNorm", epsilon),
        layers=tuple(
            _layer(state, f"{root}.encoder.layer.{number}", epsilon)
            for number in range(config.num_hidden_layers)
        ),
        heads=int(config.num_attention_heads),
        head_hidden=head[0],
        head_logit=head[1],
    )


def _layer(state: State, root: str, epsilon: float) -> Layer:
    return Layer(
        query=_linear(state, f"{root}.attention.self.query"),
        key=_linear(state, f"{root}.attention.self.key"),
        value=_linear(state, f"{root}.attention.self.value"),
        output=_linear(state, f"{root}.attention.output.dense"),
        attention_norm=_norm(state, f"{root}.attention.output.LayerNorm", epsilon),
        up=_linear(state, f"{root}.intermediate.dense"),
        down=_linear(state, f"{root}.output.dense"),
        output_norm=_norm(state, f"{root}.output.LayerNorm", epsilon),
    )


def _linear(state: State, name: str) -> Linear:
    return Linear(weight=state[f"{name}.weight"].T, bias=state[f"{name}.bias"])


def _norm(state: State, name: str, epsilon: float) -> Norm:
    return Norm(scale=state[f"{name}.weight"], bias=state[f"{name}.bias"], epsilon=epsilon)
