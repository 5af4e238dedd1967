"""Pairs of texts to logits in one call."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.bundles import open_model
from engine.errors import QueryTooLongError
from engine.score import ScoredPair, Scorer
from tests.unit.tiny_retrieval import write_counting_model


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scorer]:
    folder: Path = tmp_path_factory.mktemp("counting")
    opened = Scorer.open(open_model(write_counting_model(folder, "file")))
    yield opened
    opened.close()


def test_scores_are_in_the_order_of_the_pairs(scorer: Scorer) -> None:
    pairs = [("file", "file file"), ("line", "fox"), ("file", "dog"), ("line", "file line")]
    assert [one.logit for one in scorer.score(pairs)] == [2.0, 0.0, 0.0, 1.0]


def test_what_was_cut_is_said(scorer: Scorer) -> None:
    pairs = [("dog", "file " * 10), ("dog", "file " * 100)]
    assert scorer.score(pairs) == [
        ScoredPair(10.0, truncated=False),
        ScoredPair(61.0, truncated=True),  # 64 less the query and two separators
    ]


def test_no_pairs(scorer: Scorer) -> None:
    assert scorer.score([]) == []


def test_a_query_that_is_too_long(scorer: Scorer) -> None:
    with pytest.raises(QueryTooLongError):
        scorer.score([("file", "dog"), ("file " * 33, "dog")])
