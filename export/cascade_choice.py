"""Chooses a cascade's cuts: the cheapest that keep enough of NDCG@10 on a development set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import log2

import numpy as np
from numpy.typing import NDArray

from engine.cascade import by_retriever, survivors
from export.bars import progress
from export.errors import ExportError
from schemas.manifests import Cut

DEPTH = 10
# What is shown in NDCG@10 is always scored by the model.
LEAST = DEPTH
MOST = (10, 12, 15, 20, 25, 30, 40, 50, 70)
SHARES = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8)
_DISCOUNTS = np.asarray([1 / log2(place + 2) for place in range(DEPTH)])


class CascadeError(ExportError):
    """No cascade keeps enough."""


@dataclass(frozen=True)
class Judged:
    """A query's candidates in retrieval order.

    `place` is where each stands in the model's own list, `gain` its grade (0 or more), `ideal` the
    query's best possible sum of discounted gains.
    """

    retrieval: Sequence[float]
    small: Sequence[float] | None
    place: NDArray[np.intp]
    gain: NDArray[np.float64]
    ideal: float

    def ndcg(self, scored: Sequence[int]) -> float:
        """Return NDCG@10 where the model scores only these positions."""
        if not self.ideal:
            return 0.0
        ranked = np.asarray(scored, dtype=np.intp)
        top = ranked[np.argsort(self.place[ranked])][:DEPTH]
        return float((self.gain[top] * _DISCOUNTS[: len(top)]).sum() / self.ideal)


@dataclass(frozen=True)
class Choice:
    """Two cuts and what they do on the development set; shares are of all candidates.

    `kept` is the mean of what is left of each query's NDCG@10, where what a query gains does not
    make up for what others lose: gains are luck, and on other queries they will not come again.
    """

    retriever: Cut | None
    small: Cut | None
    ndcg: float
    kept: float
    small_share: float
    model_share: float
    cost: float


def ideal_gain(grades: Sequence[int]) -> float:
    """Return the discounted gains of the best order of all judged documents."""
    best = sorted((max(0, grade) for grade in grades), reverse=True)[:DEPTH]
    return float((np.asarray(best) * _DISCOUNTS[: len(best)]).sum())


def choose(judged: Sequence[Judged], small_cost: float, keep: float) -> tuple[Choice, float]:
    """Return the cheapest choice that keeps `keep` of the model's own NDCG@10, and that NDCG@10.

    By `Choice.kept`, which is stricter than the mean.

    `small_cost` is what the smaller model takes for a pair, relative to the model. Raises
    CascadeError where nothing cheaper than the model alone keeps enough.
    """
    alone = _mean([each.ndcg(range(len(each.place))) for each in judged])
    best: Choice | None = None
    cuts = [None, *_cuts([each.retrieval for each in judged])]
    with progress("trying cuts", total=len(cuts)) as advance:
        for cut in cuts:
            kept = [by_retriever(cut, each.retrieval) for each in judged]
            for choice in _choices(judged, cut, kept, small_cost):
                enough = choice.kept >= keep * alone
                if enough and (best is None or choice.cost < best.cost):
                    best = choice
            advance(1)
    if best is None or best.cost >= 1:
        raise CascadeError(
            f"no cascade keeps {keep:.1%} of NDCG@10 and saves anything: a smaller model that "
            "agrees better with this one may"
        )
    return best, alone


def _choices(
    judged: Sequence[Judged], retriever: Cut | None, kept: Sequence[list[int]], small_cost: float
) -> Iterator[Choice]:
    total = sum(len(each.place) for each in judged)
    share = sum(map(len, kept)) / total
    yield Choice(retriever, None, *_ndcg(judged, kept), 0.0, share, share)
    if any(each.small is None for each in judged):
        return
    logits = [
        [each.small[at] for at in positions]
        for each, positions in zip(judged, kept, strict=True)
        if each.small is not None
    ]
    for cut in _cuts(logits):
        left = [
            [positions[at] for at in survivors(cut, scores)]
            for positions, scores in zip(kept, logits, strict=True)
        ]
        model_share = sum(map(len, left)) / total
        cost = share * small_cost + model_share
        yield Choice(retriever, cut, *_ndcg(judged, left), share, model_share, cost)


def _cuts(scores: Sequence[Sequence[float]]) -> Iterator[Cut]:
    """Give cuts by number, by margin, and by both; margins from the distances that occur."""
    rows = [np.asarray(row)[~np.isnan(np.asarray(row))] for row in scores]
    gaps = np.concatenate([row.max() - row for row in rows if len(row)] or [np.zeros(1)])
    longest = max(map(len, scores), default=1)
    margins = [float(np.quantile(gaps, share)) for share in SHARES] + [float(gaps.max())]
    for most, margin in product([*(each for each in MOST if each < longest), longest], margins):
        yield Cut(least=LEAST, most=max(most, LEAST), margin=round(margin, 4))


def _ndcg(judged: Sequence[Judged], scored: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Return mean NDCG@10, and the mean without what any query gains."""
    values = [each.ndcg(kept) for each, kept in zip(judged, scored, strict=True)]
    alone = [each.ndcg(range(len(each.place))) for each in judged]
    return _mean(values), _mean([*map(min, values, alone)])


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
