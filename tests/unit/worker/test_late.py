"""Scoring ends when the time is up, however slow the machine has become."""

from collections.abc import Callable, Iterator

import pytest

from engine.lanes import Lanes
from schemas.events import RankedList
from tests.fakes.clock import START_S, FakeClock
from tests.fakes.events import event_json, query_of
from tests.fakes.graph import FakeGraph
from tests.fakes.memory_cluster import MemoryCluster
from tests.fakes.worker import GROUP, TOPICS, FakeWorker, Options, counter, new_reranker
from tests.unit.worker.test_admission import admission, query
from worker.admission import FULL, OVERHEAD_S, WITHIN_DEADLINE, Plan
from worker.decode import Query
from worker.reranker import Answer, Outcome, Reranker

# Of all lengths, so that each is a model batch of its own.
TEXTS = ["word " * number for number in range(1, 13)]
WAIT_S = 60.0


@pytest.fixture
def graph() -> FakeGraph:
    return FakeGraph()


@pytest.fixture
def reranker(graph: FakeGraph) -> Iterator[Reranker]:
    lanes = Lanes(graph, 1)
    yield new_reranker(FakeClock(), lanes, Options(graph=graph))
    graph.gate.set()
    lanes.close()


def asked(name: str, texts: list[str] = TEXTS, deadline_ms: int | None = 1000) -> Query:
    value = event_json(name, texts=texts, deadline_ms=deadline_ms)
    return query_of(value, timestamp_ms=int(START_S * 1000))


def answers(outcomes: list[Outcome]) -> list[Answer]:
    assert all(isinstance(one, Answer) for one in outcomes), "a late pair is no bad pair"
    return [one for one in outcomes if isinstance(one, Answer)]


def stopped_halfway(reranker: Reranker, graph: FakeGraph, *queries: Query) -> list[Answer]:
    """Answers of a batch that is stopped while its first model batch is under way."""
    graph.gate.clear()
    graph.entered.clear()
    pending = reranker.begin(queries)
    assert graph.entered.wait(WAIT_S)
    pending.stop()
    graph.gate.set()
    return answers(reranker.finish(pending))


def test_what_is_not_scored_in_time_is_answered_in_retrieval_order(
    reranker: Reranker, graph: FakeGraph
) -> None:
    (known,) = answers(reranker.finish(reranker.begin([asked("known", TEXTS[:2])])))
    graph.rows.clear()
    late, fine = stopped_halfway(reranker, graph, asked("late"), asked("known", TEXTS[:2]))
    assert (late.tier, late.degraded) == ("retrieval_order", "deadline")
    assert [one.retrieval_rank for one in late.ranking] == list(range(1, 11))
    assert (fine.tier, fine.degraded, fine.ranking) == ("full", None, known.ranking)
    assert len(graph.rows) == 1, "scored although its time was up"
    (again,) = answers(reranker.finish(reranker.begin([asked("late")])))
    assert (again.tier, again.hits) == ("full", 3), "what was scored in time is kept"


def test_who_waits_for_a_pair_that_was_given_up_is_answered_too(
    reranker: Reranker, graph: FakeGraph
) -> None:
    """It has no deadline, and did nothing wrong."""
    graph.gate.clear()
    graph.entered.clear()
    first = reranker.begin([asked("late")])
    second = reranker.begin([asked("waits", [*TEXTS, "and one more"], deadline_ms=None)])
    assert graph.entered.wait(WAIT_S)
    first.stop()
    graph.gate.set()
    answers(reranker.finish(first))
    (found,) = answers(reranker.finish(second))
    assert (found.tier, found.degraded) == ("retrieval_order", "overload")


def test_time_is_up_when_the_tightest_deadline_is_near() -> None:
    of = admission()
    queries = [query(50, deadline_ms=3000), query(10, deadline_ms=1000), query(9, 1000, age_s=5.0)]
    plans = of.plan(queries, 0, START_S)
    assert plans[2] == Plan(0, "deadline")
    found = of.stop_after_s(queries, plans, START_S)
    assert found == pytest.approx(WITHIN_DEADLINE - OVERHEAD_S)


@pytest.mark.parametrize("queries", [[], [query(5)], [query(5), query(5, deadline_ms=1000)]])
def test_what_may_take_as_long_as_it_takes_is_not_stopped(queries: list[Query]) -> None:
    assert admission().stop_after_s(queries, [FULL] * len(queries), START_S) is None


def test_the_loop_stops_what_is_late(
    cluster: MemoryCluster, start: Callable[..., FakeWorker]
) -> None:
    """Measured fast, then slow: the plan was right, and the answer would come much too late."""
    worker = start(lanes=1)

    def done(count: int) -> bool:
        return sum(cluster.group(GROUP).committed.values()) == count

    cluster.produce(TOPICS.queries, event_json("warm", texts=TEXTS), key=b"warm")
    worker.step_until(lambda: done(1))
    worker.graph.gate.clear()
    worker.graph.entered.clear()
    worker.graph.rows.clear()
    cluster.produce(
        TOPICS.queries, event_json("late", "another", texts=TEXTS, deadline_ms=5000), key=b"late"
    )
    # And begun: while the last pairs of it are tokenised, there is nothing yet to be stopped.
    worker.step_until(
        lambda: (
            worker.graph.entered.is_set()
            and all(begun.pending.done() for begun in worker.loop._in_work)
        )
    )
    cluster.clock.advance(6.0)
    worker.loop.step()
    worker.graph.gate.set()
    worker.step_until(lambda: done(2))
    lists = [
        RankedList.model_validate_json(one.value or b"") for one in cluster.read(TOPICS.results)
    ]
    assert [(one.tier, one.degraded) for one in lists] == [
        ("full", None),
        ("retrieval_order", "deadline"),
    ]
    assert len(worker.graph.rows) == 1
    assert (
        counter(worker, "dead_letters_total", model=worker.parts.metrics.model, stage="rerank") == 0
    )
