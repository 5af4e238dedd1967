"""Pairs to scores: once each, and whose fault a failure is."""

from collections.abc import Iterator

import pytest

from engine.lanes import Lanes
from tests.fakes.encoder import NAN, NAN_ID, POISON, POISON_ID, tiny_encoder
from tests.fakes.graph import FakeGraph, logit_of
from tests.fakes.store import FakeStore
from worker.caches import PairCache
from worker.scoring import PairRequest, PairScorer, PendingScores, Scores

QUERY = "read the file"
LONG_QUERY = "word " * 200


class Bench:
    """A scorer and what is in it."""

    def __init__(self) -> None:
        self.graph = FakeGraph(fails_on={POISON_ID}, nan_on={NAN_ID})
        self.lanes = Lanes(self.graph, 2)
        self.store = FakeStore()
        self.encoder = tiny_encoder()
        self.scorer = PairScorer(self.encoder, self.lanes, PairCache(self.store, "sha256:aa"))

    def begin(self, *requests: tuple[str, list[str]]) -> PendingScores:
        return self.scorer.begin([PairRequest(query, texts) for query, texts in requests])

    def score(self, *requests: tuple[str, list[str]]) -> Scores:
        return self.scorer.finish(self.begin(*requests))

    def expected(self, query: str, text: str) -> float:
        (pair,) = self.encoder.encode(self.encoder.encode_query(query), [text])
        return logit_of(pair.ids)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.graph.gate.set()
    made.lanes.close()


def logits(scores: Scores, request: int = 0) -> list[float | None]:
    return [None if one is None else one.logit for one in scores.of_request[request]]


def test_each_score_belongs_to_its_pair(bench: Bench) -> None:
    scores = bench.score((QUERY, ["one", "two words", ""]), ("other", ["one"]))
    assert logits(scores, 0) == [bench.expected(QUERY, text) for text in ("one", "two words", "")]
    assert logits(scores, 1) == [bench.expected("other", "one")]
    assert not scores.scorer_failed
    assert not scores.bad


def test_identical_pairs_of_a_batch_are_scored_once(bench: Bench) -> None:
    scores = bench.score((QUERY, ["same", "same", "other"]), (QUERY, ["other", "same"]))
    assert len(bench.graph.rows) == 2
    same, other = bench.expected(QUERY, "same"), bench.expected(QUERY, "other")
    assert logits(scores, 0) == [same, same, other]
    assert logits(scores, 1) == [other, same]


def test_a_pair_in_flight_is_not_scored_again(bench: Bench) -> None:
    bench.graph.gate.clear()
    first = bench.begin((QUERY, ["same", "one"]))
    second = bench.begin((QUERY, ["same", "two"]))
    bench.graph.gate.set()
    a, b = bench.scorer.finish(first), bench.scorer.finish(second)
    assert len(bench.graph.rows) == 3
    assert a.of_request[0][0] == b.of_request[0][0]
    assert second.hits(0) == 0


def test_a_known_pair_is_not_scored_again(bench: Bench) -> None:
    before = bench.score((QUERY, ["same"]))
    pending = bench.begin((QUERY, ["same"]))
    assert pending.hits(0) == 1
    assert bench.scorer.finish(pending) == before
    assert len(bench.graph.rows) == 1


def test_one_round_trip_each_way_for_a_batch(bench: Bench) -> None:
    bench.score((QUERY, ["one", "two"]), ("other", ["three"]))
    assert (bench.store.gets, bench.store.sets) == (1, 1)


@pytest.mark.parametrize("bad", [POISON, NAN])
def test_a_bad_pair_fails_alone(bench: Bench, bad: str) -> None:
    scores = bench.score((QUERY, ["one", f"{bad} x", "two"]), ("other", ["one"]))
    assert logits(scores, 0) == [bench.expected(QUERY, "one"), None, bench.expected(QUERY, "two")]
    assert logits(scores, 1) == [bench.expected("other", "one")]
    assert not scores.scorer_failed


def test_a_bad_pair_is_not_kept(bench: Bench) -> None:
    bench.score((QUERY, [NAN, "one"]))
    assert len(bench.store.items) == 1


def test_a_single_pair_that_fails_is_a_bad_pair(bench: Bench) -> None:
    scores = bench.score((QUERY, [POISON]))
    assert logits(scores) == [None]
    assert not scores.scorer_failed


def test_when_all_fail_it_is_the_scorer(bench: Bench) -> None:
    bench.graph.down = True
    scores = bench.score((QUERY, ["one", "two"]))
    assert logits(scores) == [None, None]
    assert scores.scorer_failed


def test_a_batch_that_waits_for_anothers_failed_pairs_blames_the_scorer_too(bench: Bench) -> None:
    """Its documents are no worse than the other batch's: they must not become dead letters."""
    bench.graph.gate.clear()
    bench.graph.down = True
    first = bench.begin((QUERY, ["one", "two"]))
    second = bench.begin((QUERY, ["two", "one"]))
    bench.graph.gate.set()
    assert bench.scorer.finish(first).scorer_failed
    assert bench.scorer.finish(second).scorer_failed


def test_the_scorer_recovers(bench: Bench) -> None:
    bench.graph.down = True
    bench.score((QUERY, ["one", "two"]))
    bench.graph.down = False
    scores = bench.score((QUERY, ["one", "two"]))
    assert logits(scores) == [bench.expected(QUERY, "one"), bench.expected(QUERY, "two")]
    assert not scores.scorer_failed


def test_a_query_that_is_too_long_is_bad_alone(bench: Bench) -> None:
    scores = bench.score((QUERY, ["one"]), (LONG_QUERY, ["one"]), ("other", ["one"]))
    assert list(scores.bad) == [1]
    assert "tokens" in str(scores.bad[1])
    assert "word" not in str(scores.bad[1])
    assert scores.of_request[1] == []
    assert logits(scores, 0) == [bench.expected(QUERY, "one")]
    assert logits(scores, 2) == [bench.expected("other", "one")]


def test_a_long_query_without_documents_is_not_looked_at(bench: Bench) -> None:
    assert not bench.score((LONG_QUERY, [])).bad


def test_a_cut_document_says_so_from_the_cache_too(bench: Bench) -> None:
    texts = ["short", "long " * 300]
    computed = bench.score((QUERY, texts))
    cached = bench.score((QUERY, texts))
    assert [one is not None and one.truncated for one in computed.of_request[0]] == [False, True]
    assert cached == computed
    assert len(bench.graph.rows) == 2


def test_a_batch_that_was_given_up_leaves_nothing_in_flight(bench: Bench) -> None:
    bench.graph.gate.clear()
    texts = [f"text {'x' * number}" for number in range(20)]  # of all lengths: many model batches
    bench.scorer.discard(bench.begin((QUERY, texts)))
    bench.graph.gate.set()
    scores = bench.score((QUERY, texts))
    assert logits(scores) == [bench.expected(QUERY, text) for text in texts]
    assert len(bench.graph.rows) < 2 * len(texts), "the lanes scored what was given up"


def test_an_empty_batch(bench: Bench) -> None:
    assert bench.score().of_request == []
    assert bench.score((QUERY, [])).of_request == [[]]
    assert bench.graph.rows == []
