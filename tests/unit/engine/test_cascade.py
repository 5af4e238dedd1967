"""Who goes on after a cheaper score."""

from math import nan
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cascade import by_retriever, retriever_cut, survivors
from schemas.manifests import Cascade, Cut, Measures

ALONE = Measures(collection="dev", queries=1, values={"NDCG@10": 1.0})


@pytest.mark.parametrize(
    ("cut", "scores", "expected"),
    [
        # The best three, wherever they stand.
        (Cut(least=1, most=3, margin=100), [1, 9, 2, 8, 3, 7], [1, 3, 5]),
        # The margin counts from the best score, its end included.
        (Cut(least=1, most=9, margin=2), [1, 9, 2, 8, 3, 7], [1, 3, 5]),
        (Cut(least=1, most=9, margin=1.5), [1, 9, 2, 8, 3, 7], [1, 3]),
        # At least so many go on, however far behind they are.
        (Cut(least=4, most=9, margin=0), [1, 9, 2, 8, 3, 7], [1, 3, 4, 5]),
        # The earlier of two equals.
        (Cut(least=1, most=2, margin=9), [5, 5, 5], [0, 1]),
        (Cut(least=5, most=9, margin=9), [2, 1], [0, 1]),
        (Cut(least=5, most=9, margin=9), [], []),
        # What could not be scored goes on beside the others, and is nobody's best.
        (Cut(least=1, most=1, margin=0), [nan, 3, 4, nan], [0, 2, 3]),
        (Cut(least=1, most=1, margin=0), [nan, nan], [0, 1]),
    ],
)
def test_survivors(cut: Cut, scores: list[float], expected: list[int]) -> None:
    assert survivors(cut, scores) == expected


SCORES = st.lists(st.floats(-10, 10), max_size=40)


@given(SCORES, st.integers(1, 10), st.integers(1, 40), st.floats(0, 20))
def test_nobody_who_goes_on_is_worse_than_one_who_does_not(
    scores: list[float], least: int, most: int, margin: float
) -> None:
    kept = survivors(Cut(least=least, most=most, margin=margin), scores)
    lost = set(range(len(scores))) - set(kept)
    assert min(len(scores), least) <= len(kept) <= max(least, most)
    assert kept == sorted(kept)
    if kept and lost:
        assert min(scores[at] for at in kept) >= max(scores[at] for at in lost)


def test_by_the_retriever_nothing_is_cut_where_a_score_is_missing() -> None:
    cut = Cut(least=1, most=1, margin=0)
    assert by_retriever(cut, [0.9, 0.1]) == [0]
    assert by_retriever(cut, [0.9, None]) == [0, 1]
    assert by_retriever(None, [0.9, 0.1]) == [0, 1]


def test_a_cut_is_for_the_scores_of_one_embedding_model(tmp_path: Path) -> None:
    cut = Cut(least=1, most=1, margin=0)
    cascade = Cascade(
        retriever=cut,
        embedder="sha256:" + "0" * 64,
        alone=ALONE,
        cascaded=ALONE,
        small_share=0,
        model_share=0.5,
        cost=0.5,
    )
    assert retriever_cut(cascade, None) is None
