"""The smaller model: when it is asked, what it answers, and that it shares no score."""

import pytest

from engine.lanes import Lanes
from schemas.events import ModelRef
from tests.fakes.clock import START_S, FakeClock
from tests.fakes.encoder import NAN, NAN_ID, tiny_encoder
from tests.fakes.events import event_json, query_of
from tests.fakes.graph import FakeGraph
from tests.fakes.retriever import FakeRetriever
from tests.fakes.store import FakeStore
from tests.fakes.worker import MODEL
from tests.unit.worker.test_admission import SPEED, FakeLanes, plan, query
from worker.admission import (
    FULL,
    OVERHEAD_MAX_S,
    OVERHEAD_S,
    WITHIN_DEADLINE,
    Admission,
    Plan,
)
from worker.caches import PairCache, RankingCache
from worker.reranker import Answer, Outcome, Reranker, SmallModel
from worker.scoring import PairScorer
from worker.settings import OverloadSettings

SMALL = ModelRef(name="small", digest="sha256:" + "5a" * 32, precision="int8")
TEXTS = [f"text number {number}" for number in range(6)]
BY_SMALL = Plan(None, "overload", small=True)


class Negated(FakeGraph):
    """Other scores than the model's, as another model has."""

    def __call__(self, *inputs):  # type: ignore[no-untyped-def]
        return -super().__call__(*inputs)


def admission(times_faster: int = 5) -> Admission:
    lanes, small = FakeLanes(), FakeLanes()
    lanes.scored(100, 2.0)
    small.scored(100 * times_faster, 2.0)
    return Admission(OverloadSettings(), lanes, small)


def test_first_fewer_candidates_then_the_smaller_model_then_neither() -> None:
    """As the time that is left shrinks."""
    stages: list[str] = []
    for deadline_ms in range(1200, 0, -10):
        (found,) = plan(admission(), query(100, deadline_ms=deadline_ms))
        name = (
            "full"
            if found == FULL
            else "small"
            if found.small
            else "fewer"
            if found.limit
            else "none"
        )
        if [name] != stages[-1:]:
            stages.append(name)
    assert stages == ["full", "fewer", "small", "none"]


def test_the_smaller_model_scores_what_its_speed_allows() -> None:
    (found,) = plan(admission(), query(100, deadline_ms=int(OVERHEAD_S * 1000) + 90))
    assert found.small
    time_s = WITHIN_DEADLINE * (OVERHEAD_S + 0.09) - OVERHEAD_S
    assert found.limit == pytest.approx(5 * SPEED * time_s, abs=1)
    (found,) = plan(admission(times_faster=50), query(100, deadline_ms=int(OVERHEAD_S * 1000) + 90))
    assert found == Plan(100, "deadline", small=True)


def test_a_batch_costs_what_it_takes_from_the_model() -> None:
    of = admission()
    of.measure()
    queries = [query(100), query(100), query(100), query(7)]
    plans = [FULL, Plan(20, "overload"), Plan(50, "overload", small=True), Plan(0, "overload")]
    assert of.cost(queries, plans) == 100 + 20 + 10
    assert Admission(OverloadSettings(), FakeLanes()).cost(queries[:1], [FULL]) == 100


def test_what_batches_take_beside_scoring_is_learned() -> None:
    """Up at once, down slowly, and never below what was reckoned with at first."""

    def limit(of: Admission) -> int:
        (found,) = plan(of, query(200, deadline_ms=1000))
        assert found.limit is not None
        return found.limit

    of = admission()
    at_first = limit(of)
    for _ in range(10):
        of.finished(pairs=50, seconds=50 / SPEED + 0.2)
    slow = limit(of)
    # After a cut, it plans with four fifths of its capacity.
    assert slow == pytest.approx(0.8 * SPEED * (WITHIN_DEADLINE - 0.2), abs=2)
    of.finished(pairs=50, seconds=50 / SPEED)
    assert slow <= limit(of) < slow + 5
    for _ in range(500):
        of.finished(pairs=50, seconds=0.0)
    assert limit(of) == int(0.8 * at_first)
    of.finished(pairs=50, seconds=3600.0)
    most = 0.8 * SPEED * (WITHIN_DEADLINE - OVERHEAD_MAX_S)
    assert limit(of) == pytest.approx(most, abs=1), "a pause is forgotten soon"


def test_an_enormous_event_leaves_time_to_those_behind_it() -> None:
    of = admission()
    enormous = query(1000, deadline_ms=10_000)
    (alone,) = of.plan([enormous], 0, START_S)
    (first,) = of.plan([enormous], 0, START_S, waiting=5)
    assert alone.limit is not None
    assert first.limit is not None
    assert first.limit < 0.6 * alone.limit
    small = [query(20, deadline_ms=10_000)] * 5
    assert of.plan(small, of.cost([enormous], [first]), START_S, waiting=3) == [FULL] * 5


def test_a_measurement_that_was_far_too_low_is_found_out() -> None:
    """The machine stood still while the model warmed up; later it is as fast as ever."""
    lanes = FakeLanes()
    lanes.scored(10, 20.0)
    of = Admission(OverloadSettings(), lanes)
    batches = 0
    while plan(of, query(50, deadline_ms=1000)) == [Plan(0, "deadline")]:
        batches += 1
        assert batches < 100, "nothing is ever scored again"
    assert batches > 10, "it was not believed at all"
    lanes.scored(100, 2.0)
    of.measure()
    assert of.pairs_per_s == pytest.approx(SPEED)


def test_a_busy_worker_does_not_doubt_its_speed() -> None:
    of = admission()
    for _ in range(50):
        of.plan([query(50, deadline_ms=1000)], 1000, START_S)
        of.plan([query(50, deadline_ms=1000, age_s=5.0)], 0, START_S)
    assert of.pairs_per_s == pytest.approx(SPEED)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def graphs():  # type: ignore[no-untyped-def]
    return FakeGraph(), Negated()


@pytest.fixture
def reranker(store: FakeStore, graphs):  # type: ignore[no-untyped-def]
    lanes = [Lanes(graph, 1) for graph in graphs]
    scorers = [
        PairScorer(tiny_encoder(max_query_tokens=tokens), one, PairCache(store, model.digest))
        for one, model, tokens in zip(lanes, (MODEL, SMALL), (48, 8), strict=True)
    ]
    retriever = FakeRetriever({f"d{n}": text for n, text in enumerate(TEXTS)})
    yield Reranker(
        scorer=scorers[0],
        retriever=retriever,
        rankings=RankingCache(store, MODEL.digest, retriever.ref.digest),
        model=MODEL,
        clock=FakeClock(),
        small=SmallModel(scorers[1], SMALL),
    )
    for one in lanes:
        one.close()


def answers(
    reranker: Reranker, plans: list[Plan], text: str = "a file", **event: object
) -> list[Answer]:
    value = event_json("q", text, **event)  # type: ignore[arg-type]
    queries = [query_of(value, timestamp_ms=int(START_S * 1000)) for _ in plans]
    outcomes: list[Outcome] = reranker.finish(reranker.begin(queries, plans))
    assert all(isinstance(outcome, Answer) for outcome in outcomes), outcomes
    return outcomes  # type: ignore[return-value]


def order(answer: Answer) -> list[str]:
    return [document.doc_id for document in answer.ranking]


def test_one_batch_by_both_models(reranker: Reranker) -> None:
    full, small, again = answers(reranker, [FULL, BY_SMALL, FULL], texts=TEXTS)
    assert (full.tier, full.degraded, full.model) == ("full", None, MODEL)
    assert (small.tier, small.degraded, small.model) == ("reduced", "overload", SMALL)
    assert order(small) == order(full)[::-1]
    assert again.ranking == full.ranking


def test_no_score_of_the_one_is_taken_for_one_of_the_other(reranker: Reranker) -> None:
    (small,) = answers(reranker, [BY_SMALL], texts=TEXTS)
    (full,) = answers(reranker, [FULL], texts=TEXTS)
    (cached,) = answers(reranker, [BY_SMALL], texts=TEXTS)
    assert (small.hits, full.hits, cached.hits) == (0, 0, len(TEXTS))
    assert cached.ranking == small.ranking
    assert order(full) == order(small)[::-1]


def test_a_ranking_by_the_smaller_model_is_not_kept_as_the_answer(reranker: Reranker) -> None:
    (small,) = answers(reranker, [BY_SMALL])
    (full,) = answers(reranker, [FULL])
    (cached,) = answers(reranker, [BY_SMALL])
    assert (small.tier, small.model) == ("reduced", SMALL)
    assert (full.tier, full.model, full.hits) == ("full", MODEL, 0)
    # A whole ranking that is known costs nothing, however great the load.
    assert (cached.tier, cached.model, cached.ranking[0].doc_id) == ("full", MODEL, order(full)[0])


def test_fewer_candidates_by_the_smaller_model(reranker: Reranker) -> None:
    (found,) = answers(reranker, [Plan(2, "deadline", small=True)], texts=TEXTS)
    assert (found.tier, found.degraded, found.model) == ("reduced", "deadline", SMALL)
    assert [document.score is None for document in found.ranking] == [False] * 2 + [True] * 4


def test_nothing_to_rank_is_full(reranker: Reranker) -> None:
    (found,) = answers(reranker, [BY_SMALL], texts=[])
    assert (found.tier, found.degraded, found.model) == ("full", None, MODEL)


@pytest.mark.parametrize("text", ["nine words of which each has several tokens of its own"])
def test_a_query_too_long_for_the_smaller_model_is_no_dead_letter(
    reranker: Reranker, text: str
) -> None:
    (small,) = answers(reranker, [BY_SMALL], text=text, texts=TEXTS)
    assert (small.tier, small.degraded, small.model) == ("retrieval_order", "overload", MODEL)


def test_a_pair_that_the_smaller_model_cannot_score(reranker: Reranker, graphs) -> None:  # type: ignore[no-untyped-def]
    graphs[1].nan_on = {NAN_ID}
    bad, good = answers(reranker, [BY_SMALL, FULL], texts=[*TEXTS, NAN])
    assert (bad.tier, bad.degraded) == ("retrieval_order", "overload")
    assert order(bad) == [f"d{number}" for number in range(1, 8)]
    assert good.tier == "full"


def test_a_smaller_model_that_fails_costs_the_other_nothing(reranker: Reranker, graphs) -> None:  # type: ignore[no-untyped-def]
    graphs[1].down = True
    bad, good = answers(reranker, [BY_SMALL, FULL], texts=TEXTS)
    assert (bad.tier, good.tier) == ("retrieval_order", "full")


def test_a_batch_that_is_given_up_leaves_nothing_behind(reranker: Reranker) -> None:
    query_ = query_of(event_json("q", texts=TEXTS), timestamp_ms=int(START_S * 1000))
    pending = reranker.begin([query_], [BY_SMALL])
    assert pending.pairs == len(TEXTS)
    reranker.discard(pending)
    (found,) = answers(reranker, [BY_SMALL], texts=TEXTS)
    assert found.model == SMALL
