"""Retrieval scores fused with logits: where they are, where they must not be, what is cached."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from engine.fusion import fuse
from engine.lanes import Lanes
from schemas.manifests import Fusion
from tests.fakes.clock import FakeClock
from tests.fakes.events import event_json, query_of
from tests.fakes.graph import FakeGraph
from tests.fakes.retriever import INDEX, FakeRetriever
from tests.fakes.store import FakeStore
from tests.fakes.worker import Options, new_reranker
from worker.admission import FULL, Plan
from worker.caches import RankingCache
from worker.rank import sigmoid
from worker.reranker import Answer, Reranker

FUSION = Fusion(logit_scale=0.5, retrieval_weight=40.0, bias=-3.0, embedder="sha256:" + "ee" * 32)
TEXTS = {"t1": "read the file", "t2": "read a line of records", "t3": "a line", "t4": "none"}
QUERY = "read a line"


@pytest.fixture
def plain() -> Iterator[Reranker]:
    lanes = Lanes(FakeGraph(), 1)
    yield new_reranker(FakeClock(), lanes, Options(retriever=FakeRetriever(TEXTS)))
    lanes.close()


@pytest.fixture
def fused(plain: Reranker) -> Reranker:
    """The same scores of pairs; rankings of its own, as its bundle has another digest."""
    rankings = RankingCache(FakeStore(), "sha256:" + "ff" * 32, INDEX.digest)
    return replace(plain, fusion=FUSION, rankings=rankings)


def answer(reranker: Reranker, event: bytes, plan: Plan = FULL) -> Answer:
    (outcome,) = reranker.finish(reranker.begin([query_of(event)], [plan]))
    assert isinstance(outcome, Answer)
    return outcome


def test_retrieved_candidates_are_sorted_by_the_sum(plain: Reranker, fused: Reranker) -> None:
    logits = {each.doc_id: each.score for each in answer(plain, event_json("q", QUERY)).ranking}
    ranking = answer(fused, event_json("q", QUERY)).ranking
    for document in ranking:
        logit = logits[document.doc_id]
        assert logit is not None
        assert document.retrieval_score is not None
        assert document.score == 0.5 * logit + 40 * document.retrieval_score - 3
        assert document.relevance == sigmoid(document.score)
    found = [document.score for document in ranking]
    assert found == sorted(found, key=lambda score: -(score or 0))
    by_logit = sorted(logits, key=lambda doc_id: -(logits[doc_id] or 0))
    assert [document.doc_id for document in ranking] != by_logit


def test_an_applications_own_scores_are_never_fused(plain: Reranker, fused: Reranker) -> None:
    candidates = [
        {"doc_id": "d1", "text": "read a file", "score": 0.1},
        {"doc_id": "d2", "text": "a line", "score": 0.9},
    ]
    event = event_json("q", QUERY, candidates=candidates)
    assert answer(fused, event).ranking == answer(plain, event).ranking


def test_what_caches_hold(plain: Reranker, fused: Reranker) -> None:
    """Of pairs, to be fused again; of whole rankings, whose key names model and index, the sum."""
    event = event_json("q", QUERY)
    computed = answer(fused, event)
    cached = answer(fused, event)
    assert (computed.misses, cached.hits) == (4, 4)
    without_text = [each.model_copy(update={"text": ""}) for each in computed.ranking]
    assert list(cached.ranking) == without_text
    by_pairs = answer(fused, event_json("q", QUERY, return_text=True))
    assert by_pairs.ranking == computed.ranking
    raw = {each.doc_id: each.score for each in answer(plain, event).ranking}
    assert raw != {each.doc_id: each.score for each in cached.ranking}
    inline = event_json("q", QUERY, candidates=[{"doc_id": "t2", "text": TEXTS["t2"]}])
    only = answer(fused, inline).ranking[0]
    assert only.score == raw["t2"]


def test_unscored_candidates_still_follow_in_retrieval_order(fused: Reranker) -> None:
    ranking = answer(fused, event_json("q", QUERY), Plan(2, "deadline")).ranking
    assert [each.score is None for each in ranking] == [False, False, True, True]
    assert {each.retrieval_rank for each in ranking[:2]} == {1, 2}
    assert [each.retrieval_rank for each in ranking[2:]] == [3, 4]


def test_scores_that_are_missing_leave_all_logits_as_they_are() -> None:
    assert fuse(FUSION, [1.0, 2.0], [0.5, None], ["", ""]) == [1.0, 2.0]
    assert fuse(FUSION, [1.0, 2.0], [0.5, 0.25], ["", ""]) == [17.5, 8.0]
    assert fuse(FUSION, [], [], []) == []


def test_logits_of_long_documents_are_heard_less() -> None:
    shy = FUSION.model_copy(update={"full_chars": 10, "center": -2.0})
    texts = ["x" * length for length in (0, 10, 20, 1000)]
    heard = [4.0, 4.0, 1.0, -1.94]
    expected = [0.5 * each + 40 * 0.25 - 3 for each in heard]
    assert fuse(shy, [4.0] * 4, [0.25] * 4, texts) == pytest.approx(expected)
