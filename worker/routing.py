"""The cascade of a batch: cheaper scores decide which candidates the model scores.

It is part of the model, chosen on a development set and kept in its bundle, so an answer that it
shortened is no worse than asked for: its tier is `full`. What was cut follows unscored, in
retrieval order.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, replace
from math import nan

from engine.cascade import by_retriever, survivors
from engine.lanes import Lanes, LaneStats
from schemas.manifests import Cut
from worker.admission import Plan
from worker.decode import Query
from worker.scoring import PairRequest, PairScorer, PendingScores, Scores
from worker.work import Work

# In how many seconds the scoring of such queries must end; None: when it is done.
TimeLeft = Callable[[Sequence[Query], Sequence[Plan]], float | None]


@dataclass(frozen=True)
class SmallStage:
    """The smaller model, with lanes of its own, so that it is not behind the model's batches."""

    scorer: PairScorer
    lanes: Lanes
    cut: Cut


class Routing:
    """Cuts the candidates of queries. `cut` runs on one thread at a time."""

    def __init__(self, retriever: Cut | None, small: SmallStage | None, lanes: Lanes) -> None:
        self._retriever = retriever
        self._small = small
        self._lanes = lanes
        self._routed = 0
        self._passed_by = 0

    def cut(self, work: Sequence[Work], time_left: TimeLeft | None = None) -> list[Work]:
        """Return the queries with those candidates first that the model is to score.

        Waits for the smaller model, until the time is up: what it has not scored whole by then the
        model has no time for either. A query that another model answers stays as it is, and so
        does one whose pairs the smaller model can't score: it is the model's to judge.
        """
        kept = [self._by_retriever(item) for item in work]
        late: frozenset[int] = frozenset()
        if self._small is not None and any(kept):
            scores = _ask(self._small.scorer, work, kept, time_left)
            kept, late = _survivors(self._small.cut, kept, scores), scores.late
        return [
            item.too_late()
            if number in late
            else item
            if positions is None
            else _reordered(item, positions)
            for number, (item, positions) in enumerate(zip(work, kept, strict=True))
        ]

    def begun(self, work: Sequence[Work], scores: PendingScores) -> None:
        """Count what the model scores of queries that `cut` leaves alone, as in an interleaving.

        Its lanes' time holds them too: without them the two models would look slower than they are.
        """
        alone = [number for number, item in enumerate(work) if item.arm == "interleaved"]
        self._passed_by += scores.new_pairs(alone)

    def _by_retriever(self, item: Work) -> list[int] | None:
        if item.arm != "champion" or not item.to_score:
            return None
        # Scores that came with the event have no known scale.
        cut = self._retriever if item.query.event.candidates is None else None
        kept = by_retriever(cut, [each.retrieval_score for each in item.to_score])
        self._routed += len(item.to_score) - len(kept)
        return kept

    @property
    def count(self) -> int:
        """How many lanes score side by side: for admission, which sees both models as one."""
        return self._lanes.count

    @property
    def stats(self) -> LaneStats:
        """Candidates that were dealt with, the tokens read and the time taken by both models.

        What a smaller model scored before its time was up counts, although the model sees none of
        it: left out, its time would be too, and a machine that became slow would still look fast.
        """
        model = self._lanes.stats
        if self._small is None:
            return replace(model, pairs=model.pairs + self._routed)
        small = self._small.lanes.stats
        return LaneStats(
            small.pairs + self._routed + self._passed_by,
            small.tokens + model.tokens,
            small.busy_s + model.busy_s,
        )


def _ask(
    scorer: PairScorer,
    work: Sequence[Work],
    kept: Sequence[list[int] | None],
    time_left: TimeLeft | None,
) -> Scores:
    """Return what the smaller model has scored when the time is up, and at the latest then."""
    asked = [
        PairRequest(item.query.event.query, [item.candidates[at].text for at in positions or ()])
        for item, positions in zip(work, kept, strict=True)
    ]
    pending = scorer.begin(asked)
    if time_left is not None:
        in_it = [item for item, positions in zip(work, kept, strict=True) if positions]
        left_s = time_left([item.query for item in in_it], [item.plan for item in in_it])
        if left_s is not None and wait(pending.futures, max(0.0, left_s)).not_done:
            pending.logits.stop()
    return scorer.finish(pending)


def _survivors(
    cut: Cut, kept: Sequence[list[int] | None], scores: Scores
) -> list[list[int] | None]:
    left: list[list[int] | None] = []
    for number, positions in enumerate(kept):
        if positions is None or number in scores.bad:
            left.append(positions)
            continue
        found = scores.of_request[number]
        logits = [nan if score is None else score.logit for score in found]
        left.append([positions[at] for at in survivors(cut, logits)])
    return left


def _reordered(item: Work, positions: Sequence[int]) -> Work:
    """Put what is to be scored first; `cut` tells how many of the rest only the cascade took."""
    chosen = set(positions)
    asked = len(item.to_score)
    rest = [each for at, each in enumerate(item.candidates) if at not in chosen]
    candidates = [*(item.candidates[at] for at in positions), *rest]
    return replace(item, candidates=candidates, cut=asked - len(positions))
