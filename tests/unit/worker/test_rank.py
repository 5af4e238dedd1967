"""Logits to an order."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.candidates import Candidate
from worker.rank import Score, rank, sigmoid


def candidates(count: int) -> list[Candidate]:
    return [Candidate(f"d{n}", f"text {n}", None, n) for n in range(1, count + 1)]


def scores(*logits: float) -> list[Score]:
    return [Score(logit, truncated=False) for logit in logits]


def test_best_first_and_ranks_from_one() -> None:
    ranking = rank(candidates(3), scores(-1.0, 2.0, 0.5), 10)
    assert [one.doc_id for one in ranking] == ["d2", "d3", "d1"]
    assert [one.rank for one in ranking] == [1, 2, 3]
    assert [one.retrieval_rank for one in ranking] == [2, 3, 1]
    assert [one.score for one in ranking] == [2.0, 0.5, -1.0]


def test_ties_keep_the_retrieval_order() -> None:
    ranking = rank(candidates(4), scores(1.0, 2.0, 1.0, 2.0), 10)
    assert [one.doc_id for one in ranking] == ["d2", "d4", "d1", "d3"]


def test_logits_that_a_sigmoid_would_tie_are_told_apart() -> None:
    ranking = rank(candidates(2), scores(50.0, 51.0), 10)
    assert sigmoid(50.0) == sigmoid(51.0)
    assert [one.doc_id for one in ranking] == ["d2", "d1"]


def test_minus_zero_and_zero_tie() -> None:
    assert [one.doc_id for one in rank(candidates(2), scores(-0.0, 0.0), 10)] == ["d1", "d2"]


def test_unscored_candidates_follow_in_retrieval_order() -> None:
    ranking = rank(candidates(4), scores(-9.0, -8.0), 10)
    assert [one.doc_id for one in ranking] == ["d2", "d1", "d3", "d4"]
    assert [(one.score, one.relevance) for one in ranking[2:]] == [(None, None)] * 2


def test_no_scores_give_the_retrieval_order() -> None:
    assert [one.doc_id for one in rank(candidates(3), [], 10)] == ["d1", "d2", "d3"]


@pytest.mark.parametrize("top_n", [1, 2, 3, 1000])
def test_top_n(top_n: int) -> None:
    assert len(rank(candidates(3), scores(1.0, 2.0, 3.0), top_n)) == min(top_n, 3)


def test_nothing_to_rank() -> None:
    assert rank([], [], 10) == ()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_sigmoid_has_bounds_and_no_overflow(logit: float) -> None:
    assert 0.0 <= sigmoid(logit) <= 1.0
    assert sigmoid(logit) + sigmoid(-logit) == pytest.approx(1.0)


@given(st.floats(-700, 700), st.floats(-700, 700))
def test_sigmoid_never_turns_an_order_around(a: float, b: float) -> None:
    assert (a < b) <= (sigmoid(a) <= sigmoid(b))


def test_sigmoid_is_the_sigmoid() -> None:
    assert sigmoid(0.0) == 0.5
    assert sigmoid(2.0) == pytest.approx(1 / (1 + math.exp(-2.0)))


@given(st.lists(st.floats(-20, 20, width=32), max_size=30), st.integers(0, 30))
def test_a_ranking_is_a_permutation_of_its_candidates(logits: list[float], more: int) -> None:
    given_ = candidates(len(logits) + more)
    ranking = rank(given_, scores(*logits), 1000)
    assert sorted(one.doc_id for one in ranking) == sorted(one.doc_id for one in given_)
    scored = [one.score for one in ranking if one.score is not None]
    assert scored == sorted(logits, reverse=True)
    assert all(one.text == f"text {one.retrieval_rank}" for one in ranking)
