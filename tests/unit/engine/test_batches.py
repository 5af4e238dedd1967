"""Sequences to model batches of equal length."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.batches import MAX_BATCH_TOKENS, MAX_ROWS, plan_batches


def plan(lengths: list[int], **bounds: int) -> list[list[int]]:
    return [batch.tolist() for batch in plan_batches(lengths, **bounds)]


@given(st.lists(st.integers(1, 600), max_size=200), st.integers(1, 40), st.integers(1, 2000))
def test_batches_are_a_partition_of_equal_lengths_within_bounds(
    lengths: list[int], max_rows: int, max_tokens: int
) -> None:
    batches = plan(lengths, max_rows=max_rows, max_tokens=max_tokens)
    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    for batch in batches:
        (length,) = {lengths[position] for position in batch}
        assert 1 <= len(batch) <= max_rows
        assert len(batch) == 1 or len(batch) * length <= max_tokens


@given(st.lists(st.integers(1, 50), max_size=100))
def test_the_longest_come_first(lengths: list[int]) -> None:
    batches = plan(lengths)
    of_batches = [lengths[batch[0]] for batch in batches]
    assert of_batches == sorted(of_batches, reverse=True)


@given(st.lists(st.integers(1, 8), max_size=100), st.integers(1, 10))
def test_there_are_no_more_batches_than_needed(lengths: list[int], max_rows: int) -> None:
    batches = plan(lengths, max_rows=max_rows, max_tokens=10**6)
    needed = sum(-(-lengths.count(length) // max_rows) for length in set(lengths))
    assert len(batches) == needed


def test_equal_lengths_keep_their_order() -> None:
    assert plan([3, 5, 3, 5, 3], max_rows=2) == [[1, 3], [0, 2], [4]]


@pytest.mark.parametrize("length", [1, 16, 17, 32, 33, 512, 513, 5000])
def test_the_default_bounds(length: int) -> None:
    rows = max(1, min(MAX_ROWS, MAX_BATCH_TOKENS // length))
    assert [len(batch) for batch in plan([length] * rows * 2)] == [rows, rows]


def test_nothing() -> None:
    assert plan([]) == []
