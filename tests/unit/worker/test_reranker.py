"""A batch of queries to ranked candidates."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from engine.lanes import Lanes
from tests.fakes.clock import START_S, FakeClock
from tests.fakes.encoder import POISON, POISON_ID, tiny_encoder
from tests.fakes.events import event_json, query_of
from tests.fakes.graph import FakeGraph, logit_of
from tests.fakes.retriever import INDEX, FakeRetriever
from tests.fakes.store import FakeStore
from tests.fakes.worker import MODEL, Options, new_reranker
from worker.admission import Plan
from worker.decode import Query
from worker.errors import TransientError
from worker.reranker import Answer, Outcome, Rejection
from worker.settings import FeedbackSettings

TEXTS = {"t1": "read the file", "t2": "a broker keeps records", "t3": "line by line", "t4": ""}
QUERY = "read a line"


class Bench:
    """A reranker and what is in it."""

    def __init__(self, retriever: FakeRetriever | None, feedback: FeedbackSettings) -> None:
        self.clock = FakeClock()
        self.graph = FakeGraph(fails_on={POISON_ID})
        self.store = FakeStore()
        self.lanes = Lanes(self.graph, 2)
        self.retriever = retriever
        options = Options(
            graph=self.graph, store=self.store, retriever=retriever, feedback=feedback
        )
        self.reranker = new_reranker(self.clock, self.lanes, options)

    def run(self, *events: bytes, plans: Sequence[Plan] | None = None) -> list[Outcome]:
        queries = [query_of(event, offset=number) for number, event in enumerate(events)]
        outcomes = self.reranker.finish(self.reranker.begin(queries, plans))
        assert [outcome.query for outcome in outcomes] == queries
        return outcomes

    def answer(self, event: bytes, plan: Plan | None = None) -> Answer:
        (outcome,) = self.run(event, plans=None if plan is None else [plan])
        assert isinstance(outcome, Answer), outcome
        return outcome

    def expected(self, query: str, *texts: str) -> list[float]:
        encoder = tiny_encoder()
        pairs = encoder.encode(encoder.encode_query(query), texts)
        return [logit_of(pair.ids) for pair in pairs]


Start = Callable[..., Bench]


@pytest.fixture
def start() -> Iterator[Start]:
    benches: list[Bench] = []

    def build(
        retriever: FakeRetriever | None = None, feedback: FeedbackSettings | None = None
    ) -> Bench:
        benches.append(Bench(retriever, feedback or FeedbackSettings()))
        return benches[-1]

    yield build
    for bench in benches:
        bench.lanes.close()


@pytest.fixture
def bench(start: Start) -> Bench:
    return start(FakeRetriever(TEXTS))


def inline(*texts: str, **more: Any) -> bytes:
    return event_json("q", QUERY, texts, **more)


def retrieved(**more: Any) -> bytes:
    return event_json("q", QUERY, **more)


def ids(answer: Answer) -> list[str]:
    return [document.doc_id for document in answer.ranking]


def scores(answer: Answer) -> dict[str, float | None]:
    return {document.doc_id: document.score for document in answer.ranking}


def test_own_candidates_are_ranked_by_their_logits(bench: Bench) -> None:
    texts = ["one", "two", "three"]
    answer = bench.answer(inline(*texts))
    expected = dict(zip(("d1", "d2", "d3"), bench.expected(QUERY, *texts), strict=True))
    assert scores(answer) == expected
    assert ids(answer) == sorted(expected, key=lambda doc_id: -expected[doc_id])
    assert (answer.tier, answer.degraded, answer.index) == ("full", None, None)
    assert (answer.hits, answer.misses) == (0, 3)
    assert bench.retriever is not None
    assert bench.retriever.calls == []


def test_candidates_are_retrieved_where_none_came(bench: Bench) -> None:
    answer = bench.answer(retrieved(top_k=3))
    assert len(answer.ranking) == 3
    assert answer.index == INDEX
    assert answer.model == MODEL
    for document in answer.ranking:
        assert document.score == bench.expected(QUERY, TEXTS[document.doc_id])[0]
        assert document.text == TEXTS[document.doc_id]


def test_a_mixed_batch_is_retrieved_at_once_and_keeps_its_order(bench: Bench) -> None:
    outcomes = bench.run(
        inline("one", "two"),
        retrieved(top_k=2),
        inline(),
        event_json("q", "keeps", top_k=1),
        inline(POISON, "one"),
        event_json("q", "word " * 200, ["one"]),
        inline("two", "one"),
    )
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [Answer, Answer, Answer, Answer, Rejection, Rejection, Answer]
    sizes = [len(one.ranking) if isinstance(one, Answer) else None for one in outcomes]
    assert sizes == [2, 2, 0, 1, None, None, 2]
    assert bench.retriever is not None
    assert bench.retriever.calls == [(QUERY, "keeps")]
    assert isinstance(outcomes[0], Answer)
    assert isinstance(outcomes[6], Answer)
    first, last = scores(outcomes[0]), scores(outcomes[6])
    assert (first["d1"], first["d2"]) == (last["d2"], last["d1"])


def test_no_candidates_at_all(bench: Bench) -> None:
    answer = bench.answer(inline())
    assert (answer.ranking, answer.tier, answer.degraded) == ((), "full", None)
    assert (answer.hits, answer.misses) == (0, 0)


def test_an_index_that_finds_nothing(start: Start) -> None:
    bench = start(FakeRetriever({}))
    for _ in range(2):
        answer = bench.answer(retrieved())
        assert (answer.ranking, answer.tier, answer.index) == ((), "full", INDEX)


def test_without_an_index_candidates_must_come_along(start: Start) -> None:
    bench = start()
    answer, rejection = bench.run(inline("one"), retrieved())
    assert isinstance(answer, Answer)
    assert isinstance(rejection, Rejection)
    assert "RERANKER_INDEX_BUNDLE" in str(rejection.error)


def test_an_index_that_is_away_is_everybodys_problem(bench: Bench) -> None:
    assert bench.retriever is not None
    bench.retriever.errors.append(TransientError("away"))
    with pytest.raises(TransientError):
        bench.run(retrieved(), inline("one"))


def test_a_query_that_the_index_chokes_on_fails_alone(start: Start) -> None:
    bench = start(FakeRetriever(TEXTS, chokes_on="choke"))
    outcomes = bench.run(
        retrieved(), event_json("q", "choke secret"), inline("one"), event_json("q", "keeps")
    )
    assert [type(one) for one in outcomes] == [Answer, Rejection, Answer, Answer]
    assert isinstance(outcomes[1], Rejection)
    assert "secret" not in str(outcomes[1].error)


def test_a_candidate_that_cannot_be_scored_is_named_by_its_place(bench: Bench) -> None:
    (rejection,) = bench.run(inline("one", "two", f"{POISON} secret"))
    assert isinstance(rejection, Rejection)
    assert str(rejection.error) == "candidate 3 could not be scored"


def test_top_n_cuts_the_list_and_not_the_work(bench: Bench) -> None:
    full, short = bench.answer(inline("a", "b", "c")), bench.answer(inline("a", "b", "c", top_n=1))
    assert short.ranking == full.ranking[:1]
    assert short.tier == "full"


@pytest.mark.parametrize("event", [inline("same", "same", "x"), retrieved()])
def test_cached_equals_computed(bench: Bench, event: bytes) -> None:
    computed, cached = bench.answer(event), bench.answer(event)
    size = len(computed.ranking)
    assert [(one.doc_id, one.rank, one.score, one.relevance) for one in cached.ranking] == [
        (one.doc_id, one.rank, one.score, one.relevance) for one in computed.ranking
    ]
    assert (computed.hits, computed.misses) == (0, size)
    assert (cached.hits, cached.misses) == (size, 0)
    assert cached.tier == computed.tier == "full"


def test_a_cached_ranking_saves_retrieval_and_pairs(bench: Bench) -> None:
    full = bench.answer(retrieved(top_k=4))
    answer = bench.answer(event_json("other", QUERY, top_k=4, top_n=2, tenant="other"))
    assert bench.retriever is not None
    assert len(bench.retriever.calls) == 1
    assert [one.doc_id for one in answer.ranking] == ids(full)[:2]
    assert [one.retrieval_score for one in answer.ranking] == [
        one.retrieval_score for one in full.ranking[:2]
    ]
    assert (answer.hits, answer.misses) == (4, 0)


def test_another_top_k_is_another_question(bench: Bench) -> None:
    assert len(bench.answer(retrieved(top_k=2)).ranking) == 2
    assert len(bench.answer(retrieved(top_k=4)).ranking) == 4


def test_no_text_is_kept_in_the_cache(bench: Bench) -> None:
    bench.answer(retrieved())
    bench.answer(inline("a very private text"))
    kept = b"".join(key + value for key, value in bench.store.items.items())
    assert b"broker" not in kept
    assert b"private" not in kept
    assert QUERY.encode() not in kept


def test_a_text_that_is_asked_for_comes_in_spite_of_the_cache(bench: Bench) -> None:
    bench.answer(retrieved())
    answer = bench.answer(retrieved(return_text=True))
    assert {one.doc_id: one.text for one in answer.ranking} == TEXTS
    assert answer.misses == 0


def test_texts_for_feedback_come_in_spite_of_the_cache(start: Start) -> None:
    bench = start(FakeRetriever(TEXTS), FeedbackSettings(text="always"))
    for _ in range(2):
        answer = bench.answer(retrieved())
        assert {one.doc_id: one.text for one in answer.ranking} == TEXTS


def test_a_plan_scores_the_first_and_says_why(bench: Bench) -> None:
    answer = bench.answer(inline("a", "b", "c", "d"), Plan(2, "deadline"))
    assert (answer.tier, answer.degraded) == ("reduced", "deadline")
    assert set(ids(answer)[:2]) == {"d1", "d2"}
    assert ids(answer)[2:] == ["d3", "d4"]
    assert len(bench.graph.rows) == 2
    assert (answer.hits, answer.misses) == (0, 2)


def test_a_plan_of_none_gives_the_retrieval_order(bench: Bench) -> None:
    answer = bench.answer(inline("a", "b"), Plan(0, "overload"))
    assert (answer.tier, answer.degraded) == ("retrieval_order", "overload")
    assert ids(answer) == ["d1", "d2"]
    assert bench.graph.rows == []


def test_a_plan_that_was_not_needed_is_not_mentioned(bench: Bench) -> None:
    answer = bench.answer(inline("a", "b"), Plan(2, "deadline"))
    assert (answer.tier, answer.degraded) == ("full", None)


def test_a_cached_ranking_needs_no_plan(bench: Bench) -> None:
    bench.answer(retrieved())
    answer = bench.answer(retrieved(), Plan(0, "deadline"))
    assert (answer.tier, answer.degraded) == ("full", None)


@pytest.mark.parametrize("plan", [Plan(0, "deadline"), Plan(2, "overload")])
def test_a_reduced_answer_is_never_served_as_a_full_one(bench: Bench, plan: Plan) -> None:
    bench.answer(retrieved(), plan)
    answer = bench.answer(retrieved())
    assert answer.tier == "full"
    assert all(one.score is not None for one in answer.ranking)


def test_a_failed_scorer_gives_the_retrieval_order(bench: Bench) -> None:
    bench.graph.down = True
    answer = bench.answer(inline("a", "b"))
    assert (answer.tier, answer.degraded) == ("retrieval_order", "scorer_unavailable")
    assert ids(answer) == ["d1", "d2"]
    assert (answer.hits, answer.misses) == (0, 0)


def test_a_failed_scorer_beside_cached_pairs(bench: Bench) -> None:
    known = bench.answer(inline("a", "b"))
    bench.graph.down = True
    partly, fully = bench.run(inline("a", "x", "y"), inline("a", "b"))
    assert isinstance(partly, Answer)
    assert isinstance(fully, Answer)
    assert (partly.tier, partly.hits, partly.misses) == ("retrieval_order", 0, 0)
    assert all(one.score is None for one in partly.ranking)
    assert (fully.tier, fully.ranking) == ("full", known.ranking)


def test_a_failed_scorer_is_forgotten_when_it_is_back(bench: Bench) -> None:
    bench.graph.down = True
    assert bench.answer(retrieved()).tier == "retrieval_order"
    bench.graph.down = False
    assert bench.answer(retrieved()).tier == "full"


def test_with_the_cache_away_the_ranking_is_the_same(bench: Bench) -> None:
    before = bench.answer(retrieved())
    bench.store.away = True
    after = bench.answer(retrieved())
    assert after.ranking == before.ranking
    assert after.hits == 0


def test_timings_are_of_the_record(bench: Bench) -> None:
    query = query_of(inline("a"), timestamp_ms=int((START_S - 2) * 1000))
    pending = bench.reranker.begin([query])
    bench.clock.advance(0.5)
    (answer,) = bench.reranker.finish(pending)
    assert isinstance(answer, Answer)
    assert answer.total_s == pytest.approx(2.5)
    assert answer.queue_s == pytest.approx(2.0)
    assert answer.score_s == pytest.approx(0.5)


def test_a_record_from_the_future_has_no_negative_times(bench: Bench) -> None:
    query: Query = query_of(inline("a"), timestamp_ms=int((START_S + 60) * 1000))
    (answer,) = bench.reranker.finish(bench.reranker.begin([query]))
    assert isinstance(answer, Answer)
    assert (answer.total_s, answer.queue_s) == (0.0, 0.0)


def test_an_empty_batch(bench: Bench) -> None:
    assert bench.run() == []
