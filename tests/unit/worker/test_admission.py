"""How much of a batch is scored: deadlines first, and nothing without one is ever cut."""

import json
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.lanes import Lanes, LaneStats
from tests.fakes.clock import START_S
from tests.fakes.events import query_of
from worker.admission import (
    FULL,
    OVERHEAD_MAX_S,
    OVERHEAD_S,
    STRAINED_SHARE,
    WITHIN_DEADLINE,
    Admission,
    Plan,
)
from worker.decode import Query
from worker.settings import OverloadSettings

SPEED = 100.0  # pairs a second, both lanes together
# What fits into a deadline of one second.
IN_A_SECOND = round(SPEED * (WITHIN_DEADLINE - OVERHEAD_S))


@dataclass
class FakeLanes:
    """Says what it is told to have scored."""

    stats: LaneStats = field(default_factory=lambda: LaneStats(0, 0, 0.0))
    count: int = 2

    def scored(self, pairs: int, busy_s: float) -> None:
        self.stats = LaneStats(self.stats.pairs + pairs, 0, self.stats.busy_s + busy_s)


def admission(lanes: FakeLanes | None = None, **settings: int) -> Admission:
    if lanes is None:
        lanes = FakeLanes()
        lanes.scored(100, 2.0)
    as_lanes: Lanes = lanes  # type: ignore[assignment]
    return Admission(OverloadSettings(**settings), as_lanes)


def query(pairs: int, deadline_ms: int | None = None, age_s: float = 0.0) -> Query:
    event = {
        "query_id": "q",
        "query": "a",
        "deadline_ms": deadline_ms,
        "candidates": [{"doc_id": str(n), "text": ""} for n in range(pairs)],
    }
    return query_of(json.dumps(event).encode(), timestamp_ms=int((START_S - age_s) * 1000))


def plan(of: Admission, *queries: Query, backlog: int = 0) -> list[Plan]:
    return of.plan(queries, backlog, START_S)


def test_what_has_no_deadline_is_never_cut() -> None:
    assert plan(admission(), query(1000, age_s=10**6), query(1000), backlog=10**9) == [FULL, FULL]


def test_a_deadline_with_room_is_not_cut() -> None:
    assert plan(admission(), query(90, deadline_ms=1000)) == [FULL]


def test_a_tight_deadline_scores_what_fits() -> None:
    (found,) = plan(admission(), query(200, deadline_ms=1000))
    assert found == Plan(IN_A_SECOND, "deadline")


def test_another_thread_never_sees_an_overhead_that_is_out_of_bounds() -> None:
    """The cascade asks `stop_after_s` from the thread that begins batches."""
    seen: list[float] = []

    class Watched(Admission):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == "_overhead_s":
                assert isinstance(value, float)
                seen.append(value)

    lanes = FakeLanes()
    lanes.scored(100, 2.0)
    as_lanes: Lanes = lanes  # type: ignore[assignment]
    of = Watched(OverloadSettings(), as_lanes)
    of.measure()
    of.finished(0, 10**6)
    of.finished(10**6, 0.0)
    assert seen == [OVERHEAD_S, OVERHEAD_MAX_S, OVERHEAD_S]


def test_age_counts() -> None:
    (fresh,) = plan(admission(), query(200, deadline_ms=1000))
    (old,) = plan(admission(), query(200, deadline_ms=1000, age_s=0.5))
    assert fresh.limit is not None
    assert old.limit is not None
    assert old.limit == pytest.approx(fresh.limit - SPEED / 2, abs=1)


def test_what_waits_before_it_counts() -> None:
    (found,) = plan(admission(), query(200, deadline_ms=1000), backlog=50)
    assert found.limit == IN_A_SECOND - 50


@pytest.mark.parametrize("age_s", [1.0, 2.0, 10.0**6])
def test_a_deadline_that_has_passed_scores_nothing(age_s: float) -> None:
    assert plan(admission(), query(50, deadline_ms=1000, age_s=age_s)) == [Plan(0, "deadline")]


def test_too_few_to_be_worth_it_are_none() -> None:
    strict, lax = admission(min_candidates=10), admission(min_candidates=1)
    tight = query(200, deadline_ms=int((OVERHEAD_S + 0.05) * 1000 / WITHIN_DEADLINE) + 1)
    assert plan(strict, tight) == [Plan(0, "deadline")]
    assert plan(lax, tight) == [Plan(5, "deadline")]


def test_a_query_that_fits_its_share_is_not_cut_beside_one_that_does_not() -> None:
    small, large = plan(admission(), query(5, deadline_ms=1000), query(500, deadline_ms=1000))
    assert small == FULL
    assert large.limit == IN_A_SECOND // 2


def test_what_has_no_deadline_takes_its_part_of_the_time() -> None:
    free, bound = plan(admission(), query(60), query(100, deadline_ms=1000))
    assert free == FULL
    assert bound.limit == IN_A_SECOND - 60


def test_a_passed_deadline_does_not_cut_its_neighbours() -> None:
    """It is answered in retrieval order, which takes no time from those that can be scored."""
    passed, fine = plan(
        admission(), query(50, deadline_ms=1000, age_s=5.0), query(50, deadline_ms=60_000)
    )
    assert passed == Plan(0, "deadline")
    assert fine == FULL


def test_a_target_age_says_overload() -> None:
    (found,) = plan(admission(target_age_ms=1000), query(200))
    assert found == Plan(int(SPEED * (1.0 - OVERHEAD_S)), "overload")


@pytest.mark.parametrize(
    ("deadline_ms", "target_ms", "reason"), [(500, 1000, "deadline"), (1000, 500, "overload")]
)
def test_the_tighter_of_deadline_and_target_binds(
    deadline_ms: int, target_ms: int, reason: str
) -> None:
    (found,) = plan(admission(target_age_ms=target_ms), query(200, deadline_ms=deadline_ms))
    time_s = 0.5 * (WITHIN_DEADLINE if reason == "deadline" else 1.0)
    assert found == Plan(int(SPEED * (time_s - OVERHEAD_S)), reason)  # type: ignore[arg-type]


def test_once_it_had_to_cut_it_plans_with_less_until_that_is_enough() -> None:
    edge = query(90, deadline_ms=1000)  # fits the whole capacity, and not the smaller share
    calm = admission()
    assert plan(calm, edge) == [FULL]
    strained = admission()
    plan(strained, query(200, deadline_ms=1000))
    assert plan(strained, edge) == [Plan(int(STRAINED_SHARE * IN_A_SECOND), "deadline")]
    assert plan(strained, query(20, deadline_ms=1000)) == [FULL]
    assert plan(strained, edge) == [FULL]


def test_events_without_a_deadline_do_not_end_a_strain() -> None:
    strained = admission()
    plan(strained, query(200, deadline_ms=1000))
    plan(strained, query(1))
    assert plan(strained, query(90, deadline_ms=1000)) != [FULL]


def test_without_a_measurement_nothing_is_promised() -> None:
    assert plan(admission(FakeLanes()), query(50, deadline_ms=1000)) == [Plan(0, "deadline")]


def test_speed_is_measured_over_all_lanes_and_smoothed() -> None:
    lanes = FakeLanes()
    found = admission(lanes)
    lanes.scored(100, 2.0)
    found.measure()
    assert found.pairs_per_s == pytest.approx(100.0)
    lanes.scored(200, 2.0)
    found.measure()
    assert 100.0 < found.pairs_per_s < 200.0
    for _ in range(50):
        lanes.scored(200, 2.0)
        found.measure()
    assert found.pairs_per_s == pytest.approx(200.0, rel=0.01)


def test_nothing_scored_changes_nothing() -> None:
    found = admission()
    found.measure()
    for _ in range(3):
        found.measure()
    assert found.pairs_per_s == pytest.approx(SPEED)


def test_retrieved_candidates_are_reckoned_with_top_k() -> None:
    event = json.dumps({"query_id": "q", "query": "a", "top_k": 200, "deadline_ms": 1000})
    retrieved = query_of(event.encode(), timestamp_ms=int(START_S * 1000))
    assert plan(admission(), retrieved) == [Plan(IN_A_SECOND, "deadline")]


def test_an_empty_batch_has_an_empty_plan() -> None:
    assert plan(admission()) == []


queries = st.builds(
    query,
    pairs=st.integers(0, 30),
    deadline_ms=st.none() | st.integers(1, 86_400_000),
    age_s=st.floats(-(10**9), 10**9),
)


@given(
    st.lists(queries, max_size=6),
    st.integers(0, 10_000),
    st.sampled_from([{}, {"target_age_ms": 300}, {"min_candidates": 1}]),
)
def test_every_query_has_a_plan_that_keeps_its_word(
    batch: list[Query], backlog: int, settings: dict[str, int]
) -> None:
    for one, found in zip(
        batch, plan(admission(None, **settings), *batch, backlog=backlog), strict=True
    ):
        candidates = one.event.candidates
        assert candidates is not None
        if found.limit is None:
            assert found == FULL
            continue
        assert found.reason is not None
        assert 0 <= found.limit < len(candidates)
        assert found.limit == 0 or found.limit >= settings.get("min_candidates", 10)
        assert one.event.deadline_ms is not None or "target_age_ms" in settings
