"""A batch between the beginning and the end of its scoring."""

from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from functools import cached_property

from engine.graph import Logits
from schemas.events import DegradedReason, Experiment
from worker.admission import Plan
from worker.caches import CachedRanking
from worker.candidates import Candidate
from worker.decode import Query
from worker.errors import BadRecordError
from worker.scoring import PairRequest, PendingScores


@dataclass(frozen=True)
class Work:
    """A query on its way through a batch."""

    query: Query
    plan: Plan
    candidates: list[Candidate]
    cached: CachedRanking | None = None
    ranking_key: bytes | None = None
    error: BadRecordError | None = None
    experiment: Experiment | None = None
    # How many candidates a cascade took away; those that it left come first.
    cut: int = 0

    @property
    def to_score(self) -> list[Candidate]:
        """The candidates that a model is to score."""
        if self.error is not None or self.cached is not None:
            return []
        limit = self.plan.limit
        asked = len(self.candidates) if limit is None else min(limit, len(self.candidates))
        return self.candidates[: max(0, asked - self.cut)]

    @property
    def arm(self) -> str:
        """Whose list it is: under overload the smaller model's, whatever is compared."""
        if self.plan.small:
            return "small"
        return "champion" if self.experiment is None else self.experiment.arm

    @property
    def of_champion(self) -> bool:
        """Whether the first model's rankings may answer it."""
        return self.experiment is None or self.experiment.arm == "champion"

    def request(self, *arms: str) -> PairRequest:
        """Return the pairs for a model that makes the lists of such arms."""
        texts = [each.text for each in self.to_score] if self.arm in arms else []
        return PairRequest(self.query.event.query, texts)

    def too_late(self) -> "Work":
        """Return it unscored, because its time is up.

        Those of its pairs that were scored in time are any: they make no order of their own.
        """
        timed = self.query.event.deadline_ms is not None
        reason: DegradedReason = self.plan.reason or ("deadline" if timed else "overload")
        # A list that was to be interleaved and is nobody's takes no part.
        experiment = None if self.arm == "interleaved" else self.experiment
        return replace(self, plan=Plan(0, reason), experiment=experiment)


@dataclass(frozen=True)
class Pending:
    """A batch between `begin` and `finish`. Times are monotonic seconds.

    `small_scores` are those of the smaller model, where the plan has it score anything, and
    `challenger_scores` those of the model that is compared with the first.
    """

    work: list[Work]
    scores: PendingScores
    small_scores: PendingScores | None
    began_at_s: float
    retrieved_at_s: float
    encoded_at_s: float
    challenger_scores: PendingScores | None = None

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
        all_scores = (self.scores, self.small_scores, self.challenger_scores)
        return [scores for scores in all_scores if scores is not None]
