"""How much of each query can be answered in time, from measured capacity.

First fewer candidates are scored, then a smaller model scores them where one is configured, then
none: an answer in retrieval order is better than one that comes too late. What was asked without a
deadline, where no target age is set, is never cut.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.lanes import LaneStats
from schemas.events import DegradedReason
from worker.decode import Query
from worker.settings import OverloadSettings

# The weight of the newest measurement: about the last ten batches count.
SMOOTHING = 0.2
# Once it had to cut, the worker plans with this share of its capacity, until that is enough for
# everything. Without this it would go back and forth at the edge.
STRAINED_SHARE = 0.8
# A speed too low to score anything would never be measured again: it is guessed higher with each
# batch, until something is scored and says how fast it goes.
GUESS_HIGHER = 1.05
# Of the time that is left a batch takes this share while others wait behind it, so that one
# enormous event leaves something to the small ones that follow.
SHARE_WHILE_OTHERS_WAIT = 0.5
# Answers are planned to be ready within this share of their deadline: what comes between, another
# process on the machine or a slow broker, makes only few of them late.
WITHIN_DEADLINE = 0.95
# Time for all but scoring (retrieval, cache, commit): what is planned with at first and at least.
OVERHEAD_S = 0.03
# What batches really take beside scoring is followed fast upwards and slowly downwards: it stays
# near the slow ones, because an answer that is late by a little is late.
OVERHEAD_RISE = 0.3
OVERHEAD_FALL = 0.05
# One long pause of the machine must not degrade the answers of minutes.
OVERHEAD_MAX_S = 0.3


@dataclass(frozen=True)
class Plan:
    """How many candidates to score (None: all), by which model, and why it is less than asked."""

    limit: int | None = None
    reason: DegradedReason | None = None
    small: bool = False


FULL = Plan()


class Measured(Protocol):
    """What scores, with the time that it takes: lanes, or the two models of a cascade."""

    @property
    def count(self) -> int:
        """How many threads score side by side."""

    @property
    def stats(self) -> LaneStats:
        """What was scored so far."""


class _Speed:
    """The measured speed of all lanes of a model together."""

    def __init__(self, lanes: Measured) -> None:
        self._lanes = lanes
        self._seen = LaneStats(0, 0, 0.0)
        self._guessed = True
        self.pairs_per_s = 0.0

    def measure(self) -> None:
        """Take in what was scored since the last call."""
        stats = self._lanes.stats
        pairs, busy_s = stats.pairs - self._seen.pairs, stats.busy_s - self._seen.busy_s
        self._seen = stats
        if pairs == 0 or busy_s <= 0:
            return
        speed = pairs / busy_s * self._lanes.count
        weight = 1.0 if self._guessed else SMOOTHING
        self._guessed = False
        self.pairs_per_s += weight * (speed - self.pairs_per_s)

    def guess_higher(self) -> None:
        """Note that nothing was scored because this speed is so low."""
        self.pairs_per_s *= GUESS_HIGHER
        self._guessed = True


class Admission:
    """Plans batches. One thread calls it; `stop_after_s` alone may be called from others.

    That reads settings, which stay, and `_overhead_s`, which each change sets once.
    """

    def __init__(
        self,
        settings: OverloadSettings,
        lanes: Measured,
        small_lanes: Measured | None = None,
        wanted: Callable[[Query], int] | None = None,
    ) -> None:
        self._settings = settings
        self._wanted = wanted or pairs_of
        self._speed = _Speed(lanes)
        self._small_speed = None if small_lanes is None else _Speed(small_lanes)
        self._strained = False
        self._overhead_s = OVERHEAD_S

    @property
    def pairs_per_s(self) -> float:
        """The measured capacity of all lanes together."""
        return self._speed.pairs_per_s

    def measure(self) -> None:
        """Take in what the lanes have scored since the last call."""
        self._speed.measure()
        if self._small_speed is not None:
            self._small_speed.measure()

    def finished(self, pairs: int, seconds: float) -> None:
        """Learn from a batch that took so long with so many pairs before and in it."""
        if not self.pairs_per_s:
            return
        beside = seconds - pairs / self.pairs_per_s - self._overhead_s
        learnt = self._overhead_s + beside * (OVERHEAD_RISE if beside > 0 else OVERHEAD_FALL)
        # Set once: another thread may read it in `stop_after_s`.
        self._overhead_s = min(max(OVERHEAD_S, learnt), OVERHEAD_MAX_S)

    def cost(self, queries: Sequence[Query], plans: Sequence[Plan]) -> int:
        """Return what a batch takes: in pairs of the model, also where the smaller one scores."""
        return sum(
            self._cost(self._wanted(query), plan)
            for query, plan in zip(queries, plans, strict=True)
        )

    def _cost(self, pairs: int, plan: Plan) -> int:
        scored = pairs if plan.limit is None else min(pairs, plan.limit)
        return math.ceil(scored / (self._times_faster or 1)) if plan.small else scored

    @property
    def _times_faster(self) -> float:
        """How many pairs the smaller model scores while the model scores one."""
        if self._small_speed is None or not self.pairs_per_s:
            return 0.0
        return self._small_speed.pairs_per_s / self.pairs_per_s

    def plan(
        self, queries: Sequence[Query], backlog_pairs: int, now_s: float, waiting: int = 0
    ) -> list[Plan]:
        """Return a plan for each query of one batch, behind `backlog_pairs` already in work.

        `waiting` is how many events wait behind it.

        A batch is answered as a whole, so the tightest budget in it counts for all that have one,
        but for those whose time is up: they are answered unscored, and cost the others nothing.
        """
        self.measure()
        budgets = [self._budget_s(query, now_s) for query in queries]
        wanted = [self._wanted(query) for query in queries]
        share = SHARE_WHILE_OTHERS_WAIT if waiting else 1.0
        limit = self._limit(wanted, [budget for budget, _ in budgets], backlog_pairs, share)
        plans = [
            FULL
            if budget is None
            else self._cut(pairs, limit if self._in_time(budget) else 0, reason)
            for pairs, (budget, reason) in zip(wanted, budgets, strict=True)
        ]
        if limit is not None and not backlog_pairs and FULL not in plans:
            self._doubt(limit)
        return plans

    def stop_after_s(
        self, queries: Sequence[Query], plans: Sequence[Plan], now_s: float
    ) -> float | None:
        """Return in how many seconds scoring must end, whatever was scored by then.

        Plans follow from measured speed, and a machine may become slower than it was. None: a
        query without a deadline is scored whole, however long it takes. Any thread may ask.
        """
        budgets = [
            self._budget_s(query, now_s)[0]
            for query, plan in zip(queries, plans, strict=True)
            if plan.limit != 0 and self._wanted(query)
        ]
        bound = [budget for budget in budgets if budget is not None]
        if not bound or len(bound) < len(budgets):
            return None
        return min(bound) - self._overhead_s

    def _limit(
        self,
        wanted: Sequence[int],
        budgets_s: Sequence[float | None],
        backlog_pairs: int,
        of_capacity: float,
    ) -> float | None:
        """Return how many pairs each query with a budget can have; None: all that it wants."""
        bound = [budget for budget in budgets_s if budget is not None and self._in_time(budget)]
        if not bound:
            return None
        share = STRAINED_SHARE if self._strained else 1.0
        time_s = share * (min(bound) - self._overhead_s)
        capacity = of_capacity * (self.pairs_per_s * time_s - backlog_pairs)
        asked = list(zip(wanted, budgets_s, strict=True))
        to_score = sum(pairs for pairs, budget in asked if budget is None or self._in_time(budget))
        self._strained = to_score > capacity
        if not self._strained:
            return None
        unbound = sum(pairs for pairs, budget in asked if budget is None)
        return max(0.0, (capacity - unbound) / len(bound))

    def _doubt(self, limit: float) -> None:
        """Where a batch has all time for itself and yet scores nothing, the speed may be wrong."""
        if limit < self._settings.min_candidates:
            if self._small_speed and limit * self._times_faster < self._settings.min_candidates:
                self._small_speed.guess_higher()
            self._speed.guess_higher()

    def _in_time(self, budget_s: float) -> bool:
        return budget_s > self._overhead_s

    def _cut(self, pairs: int, limit: float | None, reason: DegradedReason) -> Plan:
        """Fewer candidates while enough are left, then the smaller model, then neither."""
        if limit is None or pairs <= int(limit):
            return FULL
        if limit >= self._settings.min_candidates:
            return Plan(int(limit), reason)
        by_small = min(pairs, int(limit * self._times_faster))
        if by_small >= min(pairs, self._settings.min_candidates):
            return Plan(by_small, reason, small=True)
        return Plan(0, reason)

    def _budget_s(self, query: Query, now_s: float) -> tuple[float | None, DegradedReason]:
        """Return the seconds left for an answer (None: as long as it takes), and what binds."""
        age_s = now_s - query.record.timestamp_ms / 1000
        deadline_ms, target_ms = query.event.deadline_ms, self._settings.target_age_ms
        if deadline_ms is not None and (target_ms is None or deadline_ms <= target_ms):
            return WITHIN_DEADLINE * deadline_ms / 1000 - age_s, "deadline"
        if target_ms is not None:
            return target_ms / 1000 - age_s, "overload"
        return None, "overload"


def pairs_of(query: Query) -> int:
    """Return the most pairs that a query can ask for."""
    candidates = query.event.candidates
    return query.event.top_k if candidates is None else len(candidates)
