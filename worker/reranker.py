"""A batch of queries to ranked candidates: the way of a batch between decoding and publishing.

`begin` does what comes before scoring and hands the pairs to the lanes; `finish` does what comes
after. Between the two the caller begins the next batch, so that scoring never waits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from schemas.events import DegradedReason, Experiment, IndexRef, ModelRef, RankedDocument, Tier
from schemas.manifests import Fusion
from worker.admission import FULL, Plan
from worker.caches import CachedRanking, RankingCache
from worker.candidates import Candidate, Retriever, find, inline
from worker.challenger import Challenger, team_draft
from worker.clock import Clock
from worker.decode import Query
from worker.errors import BadRecordError
from worker.rank import Score, rank, with_retrieval
from worker.routing import Routing, TimeLeft
from worker.scoring import PairScorer, Scores
from worker.work import Pending, Work


@dataclass(frozen=True)
class Answer:
    """All that is published about an accepted query. Durations in seconds.

    `hits` and `misses` are pairs of `model`, `cut` those that its cascade spared it;
    `challenger_hits` and `challenger_misses` are those of the other model, where both made the
    list.
    """

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
    experiment: Experiment | None = None
    challenger_hits: int = 0
    challenger_misses: int = 0
    cut: int = 0


@dataclass(frozen=True)
class Rejection:
    """A query that can't be answered: it becomes a dead letter."""

    query: Query
    error: BadRecordError


Outcome = Answer | Rejection


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
    `time_left` says when a cascade's smaller model must end; unset, it takes as long as it takes.
    """

    scorer: PairScorer
    retriever: Retriever | None
    rankings: RankingCache | None
    model: ModelRef
    clock: Clock
    always_text: bool = False
    small: SmallModel | None = None
    fusion: Fusion | None = None
    challenger: Challenger | None = None
    routing: Routing | None = None
    time_left: TimeLeft | None = None

    def begin(self, queries: Sequence[Query], plans: Sequence[Plan] | None = None) -> Pending:
        """Find candidates, look scores up, hand unknown pairs to the lanes.

        Raises TransientError when the index is away.
        """
        began = self.clock.monotonic()
        work = [
            Work(query, plan, candidates=[], experiment=self._assign(query, plan))
            for query, plan in zip(queries, plans or [FULL] * len(queries), strict=True)
        ]
        work = self._retrieve(self._from_cache(work))
        retrieved = self.clock.monotonic()
        if self.routing is not None:
            work = self.routing.cut(work, self.time_left)
        scores = self.scorer.begin([item.request("champion", "interleaved") for item in work])
        if self.routing is not None:
            self.routing.begun(work, scores)
        small_scores = challenger_scores = None
        if self.small is not None and any(item.plan.small for item in work):
            small_scores = self.small.scorer.begin([item.request("small") for item in work])
        if self.challenger is not None:
            theirs = [item.request("challenger", "interleaved") for item in work]
            challenger_scores = self.challenger.scorer.begin(theirs)
        encoded = self.clock.monotonic()
        return Pending(work, scores, small_scores, began, retrieved, encoded, challenger_scores)

    def finish(self, pending: Pending) -> list[Outcome]:
        """Wait for the scores, rank, keep what is new; one outcome for each query, in order."""
        scores = self.scorer.finish(pending.scores)
        small_scores = self._finish_small(pending)
        challenger_scores = self._finish_challenger(pending)
        outcomes: list[Outcome] = []
        complete: dict[bytes, CachedRanking] = {}
        for number, item in enumerate(pending.work):
            other = {"small": small_scores, "challenger": challenger_scores}.get(item.arm)
            if other is not None:
                outcomes.append(self._by_other(pending, number, item, other))
                continue
            if number in scores.late and item.error is None and number not in scores.bad:
                outcomes.append(self._answer(pending, item.too_late(), [], 0))
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
            answer = self._answer(pending, item, found, hits)
            if challenger_scores is not None and item.arm == "interleaved":
                answer = self._interleaved(pending, number, item, answer, challenger_scores)
            outcomes.append(answer)
            if item.ranking_key is not None and len(found) == len(item.candidates) > 0:
                # The key holds the digests of model and index, and so what the fusion is.
                fused = with_retrieval(self.fusion, item.candidates, found)
                complete[item.ranking_key] = _to_cache(item.candidates, fused)
        if self.rankings is not None:
            self.rankings.put(complete)
        return outcomes

    def discard(self, pending: Pending) -> None:
        """Give up a batch."""
        self.scorer.discard(pending.scores)
        if self.small is not None and pending.small_scores is not None:
            self.small.scorer.discard(pending.small_scores)
        if self.challenger is not None and pending.challenger_scores is not None:
            self.challenger.scorer.discard(pending.challenger_scores)

    def tokens(self, pending: Pending) -> list[tuple[str, int]]:
        """Return how many tokens each model read for a batch, by the model's digest."""
        read = [(self.model.digest, pending.scores.tokens)]
        if self.small is not None and pending.small_scores is not None:
            read.append((self.small.model.digest, pending.small_scores.tokens))
        if self.challenger is not None and pending.challenger_scores is not None:
            read.append((self.challenger.model.digest, pending.challenger_scores.tokens))
        return read

    def _assign(self, query: Query, plan: Plan) -> Experiment | None:
        """Return the query's part in the comparison; both models on one list need time for both."""
        if self.challenger is None:
            return None
        experiment = self.challenger.trial.assign(query.event)
        interleaved = experiment is not None and experiment.arm == "interleaved"
        return None if interleaved and plan != FULL else experiment

    def _finish_small(self, pending: Pending) -> Scores | None:
        if self.small is None or pending.small_scores is None:
            return None
        return self.small.scorer.finish(pending.small_scores)

    def _finish_challenger(self, pending: Pending) -> Scores | None:
        if self.challenger is None or pending.challenger_scores is None:
            return None
        return self.challenger.scorer.finish(pending.challenger_scores)

    def _by_other(self, pending: Pending, number: int, item: Work, scores: Scores) -> Outcome:
        """Answer with the scores of the smaller model, or of the challenger.

        What it cannot score is answered in retrieval order: it is no dead letter, because the
        model itself might have scored it.
        """
        if item.error is not None:
            return Rejection(item.query, item.error)
        found = [score for score in scores.of_request[number] if score is not None]
        if number in scores.bad or len(found) < len(item.to_score):
            late = item.plan.small or number in scores.late
            unscored = item.too_late() if late else _without_scores(item)
            return self._answer(pending, unscored, [], 0)
        pended = pending.small_scores if item.plan.small else pending.challenger_scores
        return self._answer(pending, item, found, 0 if pended is None else pended.hits(number))

    def _interleaved(
        self, pending: Pending, number: int, item: Work, answer: Answer, scores: Scores
    ) -> Answer:
        """Let the challenger pick every other entry; its failure leaves the champion's list.

        Such a list takes no part in the comparison, as one that is scored in part.
        """
        found = [score for score in scores.of_request[number] if score is not None]
        whole = answer.tier == "full" and len(found) == len(item.candidates)
        if self.challenger is None or item.experiment is None or not whole:
            return replace(answer, experiment=None)
        event = item.query.event
        if event.candidates is None:
            found = [*with_retrieval(self.challenger.fusion, item.candidates, found)]
        theirs = rank(item.candidates, found, event.top_n)
        coins = self.challenger.trial.coins(event)
        ranking, teams = team_draft(answer.ranking, theirs, event.top_n, coins)
        hits = 0 if pending.challenger_scores is None else pending.challenger_scores.hits(number)
        return replace(
            answer,
            ranking=ranking,
            experiment=item.experiment.model_copy(update={"teams": teams}),
            challenger_hits=hits,
            challenger_misses=len(found) - hits,
        )

    def _from_cache(self, work: list[Work]) -> list[Work]:
        """Take whole rankings from the cache where the same question was answered before."""
        if self.rankings is None:
            return work
        keys = {
            number: self.rankings.key(item.query.event)
            for number, item in enumerate(work)
            if item.query.event.candidates is None and item.of_champion
        }
        # A ranking is kept without texts, so it is of no use where they are asked for.
        numbers = [n for n in keys if not (self.always_text or work[n].query.event.return_text)]
        found = dict(zip(numbers, self.rankings.get([keys[n] for n in numbers]), strict=True))
        return [
            replace(item, ranking_key=keys.get(number), cached=found.get(number))
            for number, item in enumerate(work)
        ]

    def _retrieve(self, work: list[Work]) -> list[Work]:
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

    def _with_candidates(self, item: Work, found: list[Candidate] | BadRecordError | None) -> Work:
        if item.query.event.candidates is not None:
            return replace(item, candidates=inline(item.query.event.candidates))
        if item.cached is not None:
            return replace(item, candidates=_from_cached(item.cached), plan=FULL)
        if found is None:
            return replace(item, error=BadRecordError(NO_CANDIDATES))
        if isinstance(found, BadRecordError):
            return replace(item, error=found)
        return replace(item, candidates=found)

    def _answer(self, pending: Pending, item: Work, found: Sequence[Score], hits: int) -> Answer:
        event = item.query.event
        scores = found if item.cached is None else item.cached.scores
        hits = hits if item.cached is None else len(scores)
        done = len(scores) + item.cut if scores else 0
        tier = _tier(item.plan, done, len(item.candidates))
        by_other = self._other(item) if len(scores) else None
        if event.candidates is None and item.cached is None:
            fusion = self.fusion if by_other is None else by_other.fusion
            scores = with_retrieval(fusion, item.candidates, scores)
        wall, now = self.clock.now(), self.clock.monotonic()
        total = max(0.0, wall - item.query.record.timestamp_ms / 1000)
        return Answer(
            query=item.query,
            ranking=rank(item.candidates, scores, event.top_n),
            tier=tier,
            degraded=None if tier == "full" else item.plan.reason,
            model=self.model if by_other is None else by_other.model,
            index=self.retriever.ref if self.retriever and event.candidates is None else None,
            hits=hits,
            misses=len(scores) - hits,
            cut=done - len(scores),
            queue_s=max(0.0, total - (now - pending.began_at_s)),
            retrieve_s=pending.retrieved_at_s - pending.began_at_s,
            score_s=now - pending.retrieved_at_s,
            total_s=total,
            experiment=item.experiment,
        )

    def _other(self, item: Work) -> SmallModel | Challenger | None:
        """Return whose scores an item has, if not the model's own."""
        if item.cached is not None:
            return None
        return {"small": self.small, "challenger": self.challenger}.get(item.arm)


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


def _without_scores(item: Work) -> Work:
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
