"""A cascade's smaller model ends when the time is up, as the model does."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from engine.lanes import Lanes, Scoring
from schemas.events import RankedList
from schemas.manifests import Cut
from tests.fakes.clock import START_S, FakeClock
from tests.fakes.encoder import tiny_encoder
from tests.fakes.events import event_json, query_of
from tests.fakes.graph import WAIT_S, FakeGraph
from tests.fakes.memory_cluster import MemoryCluster
from tests.fakes.store import FakeStore
from tests.fakes.worker import GROUP, TOPICS, FakeWorker, Options, new_reranker
from tests.unit.worker.test_admission import admission
from worker.admission import FULL, Plan
from worker.build import time_left
from worker.caches import PairCache
from worker.decode import Query
from worker.loop import Loop
from worker.reranker import Answer, Reranker
from worker.routing import Routing, SmallStage
from worker.scoring import PairScorer

# Of all lengths, so that each is a model batch of its own.
TEXTS = ["word " * number for number in range(1, 13)]
CUT = Cut(least=2, most=4, margin=100.0)


class SlowSmallModel:
    """A smaller model whose first model batch lasts until somebody stops it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.graph = FakeGraph()
        self.lanes = Lanes(self.graph, 1)
        self.store = FakeStore()
        stop = Scoring.stop

        def stop_and_go_on(scoring: Scoring) -> None:
            stop(scoring)
            self.graph.gate.set()

        monkeypatch.setattr(Scoring, "stop", stop_and_go_on)

    def hold(self) -> None:
        self.graph.gate.clear()
        self.graph.entered.clear()
        self.graph.rows.clear()

    def stage(self) -> SmallStage:
        scorer = PairScorer(tiny_encoder(), self.lanes, PairCache(self.store, "small"))
        return SmallStage(scorer, self.lanes, CUT)

    def no_time(self, queries: Sequence[Query], plans: Sequence[Plan]) -> float | None:
        """Says that the time is up, once the first model batch is under way."""
        assert len(queries) == len(plans)
        assert self.graph.entered.wait(WAIT_S)
        return -1.0


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowSmallModel]:
    model = SlowSmallModel(monkeypatch)
    yield model
    model.graph.gate.set()
    model.lanes.close()


@pytest.fixture
def graph() -> FakeGraph:
    return FakeGraph()


@pytest.fixture
def reranker(small: SlowSmallModel, graph: FakeGraph) -> Iterator[Reranker]:
    lanes = Lanes(graph, 1)
    plain = new_reranker(FakeClock(), lanes, Options(graph=graph))
    yield replace(plain, routing=Routing(None, small.stage(), lanes), time_left=small.no_time)
    graph.gate.set()
    lanes.close()


def asked(name: str, texts: list[str] = TEXTS, deadline_ms: int | None = 1000) -> Query:
    value = event_json(name, texts=texts, top_n=100, deadline_ms=deadline_ms)
    return query_of(value, timestamp_ms=int(START_S * 1000))


def answers(reranker: Reranker, *queries: Query) -> list[Answer]:
    outcomes = reranker.finish(reranker.begin(queries))
    assert all(isinstance(one, Answer) for one in outcomes), "a late pair is no bad pair"
    return [one for one in outcomes if isinstance(one, Answer)]


def test_what_the_smaller_model_has_no_time_for_is_answered_in_retrieval_order(
    reranker: Reranker, small: SlowSmallModel, graph: FakeGraph
) -> None:
    (known,) = answers(replace(reranker, time_left=None), asked("known", TEXTS[:5]))
    assert (known.tier, known.cut) == ("full", 1)
    graph.rows.clear()
    small.hold()
    late, fine = answers(reranker, asked("late"), asked("known", TEXTS[:5]))
    assert (late.tier, late.degraded) == ("retrieval_order", "deadline")
    assert [one.retrieval_rank for one in late.ranking] == list(range(1, 13))
    assert {one.score for one in late.ranking} == {None}
    assert (late.misses, late.cut) == (0, 0)
    assert (fine.tier, fine.degraded, fine.ranking) == ("full", None, known.ranking)
    assert len(small.graph.rows) == 1, "the smaller model went on although its time was up"
    assert not graph.rows, "the model was given pairs although the time was up"
    (again,) = answers(replace(reranker, time_left=None), asked("late"))
    assert (again.tier, len(small.graph.rows)) == ("full", 12 - 5), "what was scored is kept"


def test_without_a_deadline_a_target_age_is_what_could_not_be_kept(
    reranker: Reranker, small: SlowSmallModel
) -> None:
    small.hold()
    (late,) = answers(reranker, asked("late", deadline_ms=None))
    assert (late.tier, late.degraded) == ("retrieval_order", "overload")


@pytest.mark.parametrize("left_s", [WAIT_S, None])
def test_what_is_in_time_or_has_no_limit_is_scored_whole(
    reranker: Reranker, left_s: float | None
) -> None:
    (found,) = answers(replace(reranker, time_left=lambda *_: left_s), asked("in time"))
    assert (found.tier, found.cut) == ("full", 8)


def test_the_smaller_model_has_the_time_that_the_model_has() -> None:
    of, clock = admission(), FakeClock()
    queries = [asked("one"), asked("other", deadline_ms=2000)]
    found = time_left(of, clock)(queries, [FULL, FULL])
    assert found == of.stop_after_s(queries, [FULL, FULL], clock.now())
    assert found is not None
    clock.advance(0.5)
    assert time_left(of, clock)(queries, [FULL, FULL]) == pytest.approx(found - 0.5)


def test_the_loop_answers_what_the_smaller_model_had_no_time_for(
    cluster: MemoryCluster, start: Callable[..., FakeWorker], small: SlowSmallModel
) -> None:
    """Measured fast, then slow."""
    worker = start(lanes=1)

    def done(count: int) -> bool:
        return sum(cluster.group(GROUP).committed.values()) == count

    def left_s(queries: Sequence[Query], plans: Sequence[Plan]) -> float | None:
        return None if queries[0].event.deadline_ms is None else small.no_time(queries, plans)

    routing = Routing(None, small.stage(), worker.lanes)
    reranker = replace(worker.parts.reranker, routing=routing, time_left=left_s)
    worker.parts = replace(worker.parts, reranker=reranker)
    worker.loop = Loop(worker.parts, worker.options.batch, worker.options.drain_timeout_s)
    cluster.produce(TOPICS.queries, event_json("warm", texts=TEXTS), key=b"warm")
    worker.step_until(lambda: done(1))
    small.hold()
    late = event_json("late", "another", texts=TEXTS, deadline_ms=5000)
    cluster.produce(TOPICS.queries, late, key=b"late")
    worker.step_until(lambda: done(2))
    lists = [
        RankedList.model_validate_json(one.value or b"") for one in cluster.read(TOPICS.results)
    ]
    assert [(one.tier, one.degraded) for one in lists] == [
        ("full", None),
        ("retrieval_order", "deadline"),
    ]
    assert len(small.graph.rows) == 1
