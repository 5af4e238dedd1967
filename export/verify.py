"""Step 8: proves of the finished graph what the engine and its users rely on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import kendalltau  # type: ignore[import-untyped]
from transformers import PreTrainedModel

from engine.graph import Logits, OnnxGraph
from engine.pairs import EncodedPair
from export.calibration import Pair, by_query
from export.errors import VerificationError
from export.scoring import stack
from schemas.manifests import Measures, Verification

# Between PyTorch and the fp32 graph; what differs is only the order of sums.
MAX_FP32_DIFFERENCE = 1e-3
# Below this, the quantized model would rank visibly otherwise.
MIN_KENDALL_TAU = 0.7

_BATCH_ROWS = 32
_LENGTHS = (9, 16, 31, 64, 127)
_TORCH_PAIRS = 12


@dataclass(frozen=True)
class Agreement:
    """How near quantized logits are to those of fp32, on pairs that measured no range."""

    pairs: int
    queries: int
    kendall_tau: float
    p99_difference: float
    rms_difference: float
    fp32_deviation: float


def check_against_torch(
    model: PreTrainedModel, graph: OnnxGraph, pairs: Sequence[EncodedPair]
) -> float:
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


def agreement(pairs: Sequence[Pair], fp32: Logits, quantized: Logits) -> Agreement:
    """Compare the logits of the same pairs; raises VerificationError where the order suffers."""
    differences = np.abs(quantized - fp32)
    groups = [group for group in by_query(pairs).values() if len(group) > 1]
    if not groups:  # one document a query: the order of all is what can be compared
        groups = [list(range(len(pairs)))]
    taus = [kendalltau(fp32[group], quantized[group]).statistic for group in groups]
    tau = float(np.nanmean(taus))
    if not tau >= MIN_KENDALL_TAU:
        raise VerificationError(
            f"the quantized model orders documents otherwise (Kendall's tau {tau:.2f}): give "
            "--calibration pairs like those it will meet, or use --precision fp32"
        )
    return Agreement(
        pairs=len(pairs),
        queries=len(by_query(pairs)),
        kendall_tau=tau,
        p99_difference=float(np.percentile(differences, 99)),
        rms_difference=float(np.sqrt(np.mean(differences**2))),
        fp32_deviation=float(np.std(fp32)),
    )


def for_manifest(found: Agreement, collection: str) -> Verification:
    """Return the manifest's form; the pairs have no judgements, so there are no measures."""
    measures = Measures(collection=collection, queries=found.queries, values={})
    return Verification(
        fp32=measures,
        quantized=measures,
        kendall_tau=round(found.kendall_tau, 4),
        p99_score_difference=round(found.p99_difference, 4),
    )


def _difference(model: PreTrainedModel, graph: OnnxGraph, pair: EncodedPair) -> float:
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
