"""Chooses a cascade's cuts: the cheapest that keep enough of NDCG@10, as a development set tells.

Enough is kept twice, each time at the lower end of a 95 % interval over queries (see
`cascade_bounds`): of what people judged right, and of the model's own first ten. Few queries have
more than one or two right documents, and a cut that loses none of them may lose one of the next
query's; but each query has ten places, and a cut that takes the model's third best would some day
take a right one. Lists that differ little can't differ much in any measure (Tan and Clarke, A
Family of Rank Similarity Measures Based on Maximized Effectiveness Difference, 2015).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import log2

import numpy as np
from numpy.typing import NDArray

from engine.cascade import by_retriever, survivors
from export.bars import progress
from export.cascade_bounds import Queries, Values, at_least, folds
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

    def own(self, scored: Sequence[int]) -> float:
        """Return how much of the model's own first ten is scored, by NDCG's weights of places."""
        places = self.place[np.asarray(scored, dtype=np.intp)]
        whole = _DISCOUNTS[: len(self.place)].sum()
        return float(_DISCOUNTS[np.sort(places[places < DEPTH])].sum() / whole)


@dataclass(frozen=True)
class HeldOut:
    """What the rule does to queries that it does not see, by cross-validation.

    `kept` is of the NDCG@10 of those folds for which the rule cuts anything; None without one.
    """

    kept: float | None
    folds: int
    cut: int


@dataclass(frozen=True)
class Choice:
    """Two cuts and what they do on the development set; shares are of all candidates.

    `kept` is how much of the model's NDCG@10 they keep, and `own` how much of the model's own first
    ten, at the lower end of an interval (see `at_least`). What a query gains does not make up for
    what others lose: gains are luck, and on other queries they will not come again.
    """

    retriever: Cut | None
    small: Cut | None
    alone: float
    ndcg: float
    kept: float
    own: float
    held_out: HeldOut
    small_share: float
    model_share: float
    cost: float


@dataclass(frozen=True)
class _Cuts:
    """Two cuts, with the shares of all candidates that they leave to the two models."""

    retriever: Cut | None
    small: Cut | None
    small_share: float
    model_share: float
    cost: float


@dataclass(frozen=True)
class _Trials:
    """All cuts that were tried, each with what is left of each query: [cuts, queries]."""

    cuts: Sequence[_Cuts]
    ndcg: Values
    own: Values
    alone: Values

    @property
    def lost(self) -> Values:
        """What each query loses of its NDCG@10; what one gains counts as nothing."""
        return np.maximum(0, self.alone - self.ndcg)

    def cheapest(self, queries: Queries, keep: float) -> tuple[int, float, float] | None:
        """Return the cheapest cuts that keep enough of such queries, and how much of both.

        None where nothing that is cheaper than the model alone does.
        """
        alone = self.alone[queries]
        kept = at_least(self.lost[:, queries], alone)
        own = at_least(1 - self.own[:, queries], np.ones(len(queries)))
        cheaper = np.asarray([each.cost < 1 for each in self.cuts])
        enough = np.flatnonzero(cheaper & (kept >= keep) & (own >= keep))
        if not len(enough):
            return None
        best = int(min(enough, key=lambda at: self.cuts[int(at)].cost))
        return best, float(kept[best]), float(own[best])

    def held_out(self, keep: float) -> HeldOut:
        """Return what the rule keeps of queries that it does not see."""
        shared = list(folds(len(self.alone)))
        found = [(self.cheapest(seen, keep), unseen) for seen, unseen in shared]
        cut = [(best[0], unseen) for best, unseen in found if best is not None]
        lost = sum(float(self.lost[at, unseen].sum()) for at, unseen in cut)
        whole = sum(float(self.alone[unseen].sum()) for _, unseen in cut)
        return HeldOut(1 - lost / whole if whole else None, len(shared), len(cut))


def ideal_gain(grades: Sequence[int]) -> float:
    """Return the discounted gains of the best order of all judged documents."""
    best = sorted((max(0, grade) for grade in grades), reverse=True)[:DEPTH]
    return float((np.asarray(best) * _DISCOUNTS[: len(best)]).sum())


def choose(judged: Sequence[Judged], small_cost: float, keep: float) -> Choice:
    """Return the cheapest choice that keeps the share `keep` of both `Choice.kept` and `.own`.

    `small_cost` is what the smaller model takes for a pair, relative to the model. Raises
    CascadeError where nothing cheaper than the model alone keeps enough.
    """
    trials = _try_all(judged, small_cost)
    found = trials.cheapest(np.arange(len(judged)), keep)
    if found is None:
        raise CascadeError(
            f"no cascade that saves anything keeps {keep:.1%} of NDCG@10 and of the model's own "
            "first ten at the lower end of a 95 % interval (bootstrap over the queries): a smaller "
            "model that agrees better with this one may, or more queries to choose on"
        )
    at, kept, own = found
    cuts = trials.cuts[at]
    return Choice(
        retriever=cuts.retriever,
        small=cuts.small,
        alone=float(trials.alone.mean()),
        ndcg=float(trials.ndcg[at].mean()),
        kept=kept,
        own=own,
        held_out=trials.held_out(keep),
        small_share=cuts.small_share,
        model_share=cuts.model_share,
        cost=cuts.cost,
    )


def _try_all(judged: Sequence[Judged], small_cost: float) -> _Trials:
    cuts: list[_Cuts] = []
    ndcg: list[list[float]] = []
    own: list[list[float]] = []
    retriever_cuts = [None, *_cuts([each.retrieval for each in judged])]
    with progress("trying cuts", total=len(retriever_cuts)) as advance:
        for cut in retriever_cuts:
            kept = [by_retriever(cut, each.retrieval) for each in judged]
            for tried, scored in _pairs_of_cuts(judged, cut, kept, small_cost):
                cuts.append(tried)
                ndcg.append([one.ndcg(left) for one, left in zip(judged, scored, strict=True)])
                own.append([one.own(left) for one, left in zip(judged, scored, strict=True)])
            advance(1)
    alone = [each.ndcg(range(len(each.place))) for each in judged]
    return _Trials(
        cuts,
        np.asarray(ndcg),
        np.asarray(own),
        np.asarray(alone),
    )


def _pairs_of_cuts(
    judged: Sequence[Judged], retriever: Cut | None, kept: Sequence[list[int]], small_cost: float
) -> Iterator[tuple[_Cuts, Sequence[list[int]]]]:
    """Give the retriever's cut alone and with each of the smaller model, and what is scored."""
    total = sum(len(each.place) for each in judged)
    share = sum(map(len, kept)) / total
    yield _Cuts(retriever, None, 0.0, share, share), kept
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
        yield _Cuts(retriever, cut, share, model_share, cost), left


def _cuts(scores: Sequence[Sequence[float]]) -> Iterator[Cut]:
    """Give cuts by number, by margin, and by both; margins from the distances that occur."""
    rows = [np.asarray(row)[~np.isnan(np.asarray(row))] for row in scores]
    gaps = np.concatenate([row.max() - row for row in rows if len(row)] or [np.zeros(1)])
    longest = max(map(len, scores), default=1)
    margins = [float(np.quantile(gaps, share)) for share in SHARES] + [float(gaps.max())]
    for most, margin in product([*(each for each in MOST if each < longest), longest], margins):
        yield Cut(least=LEAST, most=max(most, LEAST), margin=round(margin, 4))
