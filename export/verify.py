"""Step 7: proves of a finished graph what the engine relies on."""

from collections.abc import Sequence

import numpy as np
import torch

from engine.graph import OnnxGraph
from engine.pairs import EncodedPair
from engine.stacks import Filled
from export.adapters import Network
from export.errors import FillingError, VerificationError
from export.scoring import stack

# Between PyTorch and the fp32 graph; what differs is only the order of sums.
MAX_FP32_DIFFERENCE = 1e-3

# Between a sequence and the same with a mask and something behind it: in half precision sums of
# other lengths round otherwise.
MAX_FILLED_DIFFERENCE = 1e-2

_BATCH_ROWS = 32
_FILLED_ROWS = 4
_LENGTHS = (9, 16, 31, 64, 127)
_TORCH_PAIRS = 12


def check_against_torch(model: Network, graph: OnnxGraph, pairs: Sequence[EncodedPair]) -> float:
    """Return the largest difference of a logit to the model's own; raises VerificationError."""
    step = max(1, len(pairs) // _TORCH_PAIRS)
    differences = [_difference(model, graph, pair) for pair in pairs[::step]]
    worst = max(differences)
    if not worst <= MAX_FP32_DIFFERENCE:
        raise VerificationError(f"the fp32 graph differs by {worst:.2g} from the model itself")
    return worst


def check_batches(graph: OnnxGraph, pairs: Sequence[EncodedPair]) -> int:
    """Return how many rows scored alone exactly as they did in a batch.

    Raises VerificationError at the first that didn't.
    """
    checked = 0
    longest = max(len(pair.ids) for pair in pairs)
    for length in sorted({*(length for length in _LENGTHS if length <= longest), longest}):
        ids, starts = stack(_of_length(pairs, length))
        together = graph(ids, starts)
        for row in range(len(ids)):
            alone = graph(ids[row : row + 1], starts[row : row + 1])
            if alone[0] != together[row]:
                raise VerificationError(
                    f"a pair of {length} tokens scores {alone[0]} alone, {together[row]} in a batch"
                )
            checked += 1
    return checked


def check_filled(graph: OnnxGraph, pairs: Sequence[EncodedPair], token: int, longest: int) -> float:
    """Return the largest difference of a logit to that of the same sequence filled up.

    Raises FillingError where it is too large, or where a filled sequence scores otherwise alone
    than among others.
    """
    filled = Filled(graph, token, longest)
    by_length: dict[int, list[EncodedPair]] = {}
    for pair in pairs:
        by_length.setdefault(filled.length_of(len(pair.ids)), []).append(pair)
    worst = 0.0
    for group in by_length.values():
        some = group[:_FILLED_ROWS]
        together = filled.logits(some)
        for pair, logit in zip(some, together, strict=True):
            if filled.logits([pair])[0] != logit:
                raise FillingError("a pair that is filled up scores otherwise in a batch")
            worst = max(worst, abs(float(graph(*stack([pair]))[0] - logit)))
    if not worst <= MAX_FILLED_DIFFERENCE:
        raise FillingError(f"filling sequences up changes logits by {worst:.2g}")
    return worst


def _difference(model: Network, graph: OnnxGraph, pair: EncodedPair) -> float:
    ids, starts = stack([pair])
    inputs = {"input_ids": torch.from_numpy(ids)}
    if graph.token_types:
        inputs["token_type_ids"] = torch.from_numpy(
            (np.arange(ids.shape[1]) >= starts[:, None]).astype(np.int64)
        )
    with torch.inference_mode():
        own = float(model(**inputs).logits[0, 0])
    return abs(own - float(graph(ids, starts)[0]))


def _of_length(pairs: Sequence[EncodedPair], length: int) -> list[EncodedPair]:
    """Cut the ends off pairs until they have one length; what they say doesn't matter here."""
    long = [pair for pair in pairs if len(pair.ids) >= length]
    return [
        EncodedPair(pair.ids[:length], min(pair.document_start, length), truncated=True)
        for pair in long[:_BATCH_ROWS]
    ]
