"""A bundle of a small encoder with random weights, made as export makes graphs for CPUs."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

pytest.importorskip("transformers")

from export import trimmed
from export.families import Encoder, Layer, Linear, Norm
from export.seal import seal
from schemas.manifests import Batches, ModelManifest, PairTemplate, Precision, Source

WORDS = 120
HIDDEN = 32
LONGEST = 96


def write_tiny_encoder(
    out: Path, precision: Precision = "fp32", batches: tuple[Batches, ...] | None = None
) -> Path:
    """Write a model bundle of two layers at `out`."""
    staging = out.with_name(out.name + ".staging")
    staging.mkdir(parents=True)
    vocabulary = {name: number for number, name in enumerate(("[UNK]", "[SEP]", *_words()))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(staging / "tokenizer.json"))
    onnx.save(trimmed.build(_encoder(np.random.default_rng(11))), staging / "model.onnx")
    manifest = ModelManifest(
        name="tiny",
        family="bert",
        precision=precision,
        recipe=trimmed.RECIPE,
        inputs=trimmed.INPUTS,
        output=trimmed.OUTPUT,
        pair=PairTemplate(
            prefix=(1,),
            infix=(1,),
            suffix=(1,),
            max_tokens=LONGEST,
            max_query_tokens=32,
            token_types=True,
        ),
        pad_token_id=0,
        disabled_optimizers=trimmed.DISABLED_OPTIMIZERS,
        base=Source(name="none", digest="sha256:" + "0" * 64),
        tools={},
        batches=batches,
        files={},
    )
    return seal(staging, manifest, out)


def _words() -> list[str]:
    return [f"w{number}" for number in range(WORDS - 2)]


def _encoder(chance: np.random.Generator) -> Encoder:
    def table(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return chance.normal(0, 0.3, shape).astype(np.float32)

    def linear(inner: int, outer: int) -> Linear:
        return Linear(table(inner, outer), table(outer))

    def norm() -> Norm:
        return Norm(1 + table(HIDDEN), table(HIDDEN), 1e-12)

    def layer() -> Layer:
        square, up, down = (HIDDEN, HIDDEN), (HIDDEN, 4 * HIDDEN), (4 * HIDDEN, HIDDEN)
        return Layer(
            query=linear(*square),
            key=linear(*square),
            value=linear(*square),
            output=linear(*square),
            attention_norm=norm(),
            up=linear(*up),
            down=linear(*down),
            output_norm=norm(),
        )

    return Encoder(
        words=table(WORDS, HIDDEN),
        positions=table(LONGEST, HIDDEN),
        token_types=table(2, HIDDEN),
        embedding_norm=norm(),
        layers=(layer(), layer()),
        heads=2,
        head_hidden=linear(HIDDEN, HIDDEN),
        head_logit=linear(HIDDEN, 1),
    )
