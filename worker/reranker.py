"""A batch of queries to ranked candidates: the way of a batch between decoding and publishing.

`begin` does what comes before scoring and hands the pairs to the lanes; `finish` does what comes
after. Between the two the caller begins the next batch, so that scoring never waits.
"""

from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from functools import cached_property

from engine.graph import Logits
from schemas.events import DegradedReason, IndexRef, ModelRef, RankedDocument, Tier
from schemas.manifests import Fusion
from worker.admission import FULL, Plan
from worker.caches import CachedRanking, RankingCache
from worker.candidates import Candidate, Retriever, find, inline
from worker.clock import Clock
from worker.decode import Query
from worker.errors import BadRecordError
from worker.rank import Score, rank, with_retrieval
from worker.scoring import PairRequest, PairScorer, PendingScores, Scores


@dataclass(frozen=True)
class Answer:
    """All that is published about an accepted query. Durations in seconds."""

    query: Query
    ranking: tuple[RankedDocument, ...]
    tier: Tier
    degraded: DegradedReason | None
    model: ModelRef
    index: IndexRef | None
    hits: int
    misses: int
    queue_s: float
    retrieve_s: float
    score_s: float
    total_s: float


@dataclass(frozen=True)
class Rejection:
    """A query that can't be answered: it becomes a dead letter."""

    query: Query
    error: BadRecordError


Outcome = Answer | Rejection


@dataclass(frozen=True)
class _Work:
    """A query on its way through a batch."""

    query: Query
    plan: Plan
    candidates: list[Candidate]
    cached: CachedRanking | None = None
    ranking_key: bytes | None = None
    error: BadRecordError | None = None

    @property
    def to_score(self) -> list[Candidate]:
        if self.error is not None or self.cached is not None:
            return []
        return self.candidates[: self.plan.limit]

    def request(self, small: bool) -> PairRequest:
        """Return the pairs for the one model or the other."""
        texts = [each.text for each in self.to_score] if self.plan.small == small else []
        return PairRequest(self.query.event.query, texts)


@dataclass(frozen=True)
class Pending:
    """A batch between `begin` and `finish`. Times are monotonic seconds.

    `small_scores` are those of the smaller model, where the plan has it score anything.
    """

    work: list[_Work]
    scores: PendingScores
    small_scores: PendingScores | None
    began_at_s: float
    retrieved_at_s: float
    encoded_at_s: float

    @property
    def pairs(self) -> int:
        """How many pairs the lanes got from this batch."""
        return sum(len(scores.own) for scores in self._all)

    @property
    def done(self) -> bool:
        """Whether `finish` would return at once."""
        return all(future.done() for future in self._futures)

    def wait(self, timeout_s: float) -> None:
        """Return once it is done, or when the time is up."""
        wait(self._futures, timeout_s)

    def stop(self) -> None:
        """Score no more: what is not scored by now is answered in retrieval order."""
        for scores in self._all:
            scores.logits.stop()

    @cached_property
    def _futures(self) -> frozenset[Future[Logits]]:
        return frozenset().union(*(scores.futures for scores in self._all))

    @property
    def _all(self) -> list[PendingScores]:
        return [self.scores, *([] if self.small_scores is None else [self.small_scores])]


@dataclass(frozen=True)
class SmallModel:
    """What scores under overload; its scores have keys of their own in the cache."""

    scorer: PairScorer
    model: ModelRef
    fusion: Fusion | None = None


@dataclass(frozen=True)
class Reranker:
    """Answers batches of queries; what `python -m worker` and `python -m worker rank` share.

    `fusion` is for candidates that the retriever found, and None where it was learnt for another.
    """

    scorer: PairScorer
    retriever: Retriever | None
    rankings: RankingCache | None
    model: ModelRef
    clock: Clock
    always_text: bool = False
    small: SmallModel | None = None
    fusion: Fusion | None = None

    def begin(self, queries: Sequence[Query], plans: Sequence[Plan] | None = None) -> Pending:
        """Find candidates, look scores up, hand unknown pairs to the lanes.

        Raises TransientError when the index is away.
        """
        began = self.clock.monotonic()
        work = [
            _Work(query, plan, candidates=[])
            for query, plan in zip(queries, plans or [FULL] * len(queries), strict=True)
        ]
        work = self._retrieve(self._from_cache(work))
        retrieved = self.clock.monotonic()
        scores = self.scorer.begin([item.request(small=False) for item in work])
        small_scores = None
        if self.small is not None and any(item.plan.small for item in work):
            small_scores = self.small.scorer.begin([item.request(small=True) for item in work])
        return Pending(work, scores, small_scores, began, retrieved, self.clock.monotonic())

    def finish(self, pending: Pending) -> list[Outcome]:
        """Wait for the scores, rank, keep what is new; one outcome for each query, in order."""
        scores = self.scorer.finish(pending.scores)
        small_scores = self._finish_small(pending)
        outcomes: list[Outcome] = []
        complete: dict[bytes, CachedRanking] = {}
        for number, item in enumerate(pending.work):
            if small_scores is not None and item.plan.small:
                outcomes.append(self._by_small(pending, number, item, small_scores))
                continue
            if number in scores.late and item.error is None and number not in scores.bad:
                outcomes.append(self._answer(pending, _too_late(item), [], 0))
                continue
            error = item.error or scores.bad.get(number)
            if error is None and not scores.scorer_failed:
                error = _unscorable(item.to_score, scores.of_request[number])
            if error is not None:
                outcomes.append(Rejection(item.query, error))
                continue
            found = [score for score in scores.of_request[number] if score is not None]
            hits = pending.scores.hits(number)
            if scores.scorer_failed and len(found) < len(item.to_score):
                # What the cache knew of it does not make an order of the whole.
                item, found, hits = _without_scores(item), [], 0  # noqa: PLW2901
            outcomes.append(self._answer(pending, item, found, hits))
            if item.ranking_key is not None and len(found) == len(item.candidates) > 0:
                complete[item.ranking_key] = _to_cache(item.candidates, found)
        if self.rankings is not None:
            self.rankings.put(complete)
        return outcomes

    def discard(self, pending: Pending) -> None:
        """Give up a batch."""
        self.scorer.discard(pending.scores)
        if self.small is not None and pending.small_scores is not None:
            self.small.scorer.discard(pending.small_scores)

    def tokens(self, pending: Pending) -> list[tuple[str, int]]:
        """Return how many tokens each model read for a batch, by the model's digest."""
        read = [(self.model.digest, pending.scores.tokens)]
        if self.small is not None and pending.small_scores is not None:
            read.append((self.small.model.digest, pending.small_scores.tokens))
        return read

    def _finish_small(self, pending: Pending) -> Scores | None:
        if self.small is None or pending.small_scores is None:
            return None
        return self.small.scorer.finish(pending.small_scores)

    def _by_small(self, pending: Pending, number: int, item: _Work, scores: Scores) -> Outcome:
        """Answer with the smaller model's scores.

        What it cannot score is answered in retrieval order: it is no dead letter, because the
        model itself might have scored it.
        """
        if item.error is not None:
            return Rejection(item.query, item.error)
        found = [score for score in scores.of_request[number] if score is not None]
        if number in scores.bad or len(found) < len(item.to_score):
            return self._answer(pending, _too_late(item), [], 0)
        hits = 0 if pending.small_scores is None else pending.small_scores.hits(number)
        return self._answer(pending, item, found, hits)

    def _from_cache(self, work: list[_Work]) -> list[_Work]:
        """Take whole rankings from the cache where the same question was answered before."""
        if self.rankings is None:
            return work
        keys = {
            number: self.rankings.key(item.query.event)
            for number, item in enumerate(work)
            if item.query.event.candidates is None
        }
        # A ranking is kept without texts, so it is of no use where they are asked for.
        numbers = [n for n in keys if not (self.always_text or work[n].query.event.return_text)]
        found = dict(zip(numbers, self.rankings.get([keys[n] for n in numbers]), strict=True))
        return [
            replace(item, ranking_key=keys.get(number), cached=found.get(number))
            for number, item in enumerate(work)
        ]

    def _retrieve(self, work: list[_Work]) -> list[_Work]:
        numbers = [
            number
            for number, item in enumerate(work)
            if item.query.event.candidates is None and item.cached is None
        ]
        found: dict[int, list[Candidate] | BadRecordError] = {}
        if self.retriever is not None and numbers:
            queries = [work[number].query for number in numbers]
            found = dict(zip(numbers, find(self.retriever, queries), strict=True))
        return [self._with_candidates(item, found.get(number)) for number, item in enumerate(work)]

    def _with_candidates(
        self, item: _Work, found: list[Candidate] | BadRecordError | None
    ) -> _Work:
        if item.query.event.candidates is not None:
            return replace(item, candidates=inline(item.query.event.candidates))
        if item.cached is not None:
            return replace(item, candidates=_from_cached(item.cached), plan=FULL)
        if found is None:
            return replace(item, error=BadRecordError(NO_CANDIDATES))
        if isinstance(found, BadRecordError):
            return replace(item, error=found)
        return replace(item, candidates=found)

    def _answer(self, pending: Pending, item: _Work, found: Sequence[Score], hits: int) -> Answer:
        event = item.query.event
        scores = found if item.cached is None else item.cached.scores
        hits = hits if item.cached is None else len(scores)
        tier = _tier(item.plan, len(scores), len(item.candidates))
        by_small = self.small if item.plan.small and len(scores) else None
        if event.candidates is None:
            fusion = self.fusion if by_small is None else by_small.fusion
            scores = with_retrieval(fusion, item.candidates, scores)
        wall, now = self.clock.now(), self.clock.monotonic()
        total = max(0.0, wall - item.query.record.timestamp_ms / 1000)
        return Answer(
            query=item.query,
            ranking=rank(item.candidates, scores, event.top_n),
            tier=tier,
            degraded=None if tier == "full" else item.plan.reason,
            model=self.model if by_small is None else by_small.model,
            index=self.retriever.ref if self.retriever and event.candidates is None else None,
            hits=hits,
            misses=len(scores) - hits,
            queue_s=max(0.0, total - (now - pending.began_at_s)),
            retrieve_s=pending.retrieved_at_s - pending.began_at_s,
            score_s=now - pending.retrieved_at_s,
            total_s=total,
        )


NO_CANDIDATES = (
    "the event has no candidates and this worker has no index: send candidates, or set "
    "index_bundle (RERANKER_INDEX_BUNDLE)"
)


def _tier(plan: Plan, scored: int, candidates: int) -> Tier:
    if scored == candidates and not (plan.small and scored):
        return "full"
    return "reduced" if scored else "retrieval_order"


def _unscorable(
    candidates: Sequence[Candidate], scores: Sequence[Score | None]
) -> BadRecordError | None:
    for candidate, score in zip(candidates, scores, strict=True):
        if score is None:
            return BadRecordError(f"candidate {candidate.retrieval_rank} could not be scored")
    return None


def _too_late(item: _Work) -> _Work:
    """Those of its pairs that were scored in time are any: they make no order of their own."""
    reason: DegradedReason = "overload" if item.query.event.deadline_ms is None else "deadline"
    return replace(item, plan=Plan(0, item.plan.reason or reason))


def _without_scores(item: _Work) -> _Work:
    return replace(item, plan=Plan(0, "scorer_unavailable"))


def _to_cache(candidates: Sequence[Candidate], scores: Sequence[Score]) -> CachedRanking:
    return CachedRanking(
        doc_ids=tuple(candidate.doc_id for candidate in candidates),
        retrieval_scores=tuple(candidate.retrieval_score for candidate in candidates),
        scores=tuple(scores),
    )


def _from_cached(cached: CachedRanking) -> list[Candidate]:
    return [
        Candidate(doc_id, "", retrieval_score, place)
        for place, (doc_id, retrieval_score) in enumerate(
            zip(cached.doc_ids, cached.retrieval_scores, strict=True), start=1
        )
    ]
