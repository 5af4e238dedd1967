"""The fp32 graph of the tiny cross-encoder, and pairs for it."""

import onnx
from tokenizers import Tokenizer

from engine.pairs import EncodedPair
from export.checkpoint import open_checkpoint
from export.families import encoder_of
from export.merge import load_merged
from export.quantize.babble import babble
from export.trimmed import build
from schemas.manifests import PairTemplate
from tests.unit.export.conftest import CrossEncoder

TEMPLATE = PairTemplate(
    prefix=(2,), infix=(3,), suffix=(3,), max_tokens=64, max_query_tokens=20, token_types=True
)


def tiny_fp32(cross_encoder: CrossEncoder) -> onnx.ModelProto:
    weights = encoder_of(load_merged(open_checkpoint(str(cross_encoder("bert"))), None))
    assert weights is not None
    return build(weights)


def tiny_pairs(cross_encoder: CrossEncoder) -> list[EncodedPair]:
    tokenizer = Tokenizer.from_file(str(cross_encoder("bert") / "tokenizer.json"))
    return babble(tokenizer, TEMPLATE)
