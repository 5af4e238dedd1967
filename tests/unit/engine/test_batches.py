"""Sequences to model batches of equal length."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import schemas
from engine.batches import (
    MAX_BATCH_TOKENS,
    MAX_ROWS,
    BatchSize,
    BatchSizes,
    measured_sizes,
    plan_batches,
)
from schemas.manifests import Batches, BatchStep, ModelManifest


def plan(
    lengths: list[int], max_rows: int = MAX_ROWS, max_tokens: int = MAX_BATCH_TOKENS
) -> list[list[int]]:
    sizes = BatchSizes(BatchSize(max_rows, max_tokens))
    return [batch.tolist() for batch in plan_batches(lengths, sizes)]


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


def test_steps_are_for_lengths_up_to_theirs_and_the_last_for_longer_ones() -> None:
    sizes = BatchSizes(steps=((16, BatchSize(64, 1024)), (64, BatchSize(32, 512))))
    rows = {length: sizes.rows_of(length) for length in (1, 16, 17, 32, 64, 65, 128, 600)}
    assert rows == {1: 64, 16: 64, 17: 30, 32: 16, 64: 8, 65: 7, 128: 4, 600: 1}
    assert [len(batch) for batch in plan_batches([16] * 70 + [64] * 9, sizes)] == [8, 1, 64, 6]


@given(st.integers(1, 600), st.integers(1, 300), st.integers(1, 20_000))
def test_full_batches_of_powers_of_two(length: int, rows: int, tokens: int) -> None:
    exact = BatchSize(rows, tokens).rows_of(length)
    rounded = BatchSize(rows, tokens, powers_of_two=True).rows_of(length)
    assert rounded.bit_count() == 1
    assert rounded <= exact < 2 * rounded


def test_a_manifest_says_so_for_its_device_only(manifest: ModelManifest) -> None:
    step = BatchStep(tokens=64, rows=16, batch_tokens=1024)
    found = Batches(device="cpu", machine="a machine", steps=(step,))
    tuned = manifest.model_copy(update={"batches": (found,)})

    assert measured_sizes(manifest, "cpu") is None
    assert measured_sizes(tuned, "openvino") is None
    assert measured_sizes(tuned, "cpu") == BatchSizes(steps=((64, BatchSize(16, 1024)),))


@pytest.mark.parametrize("ends", [[64, 32], [64, 64], []])
def test_steps_that_do_not_rise_are_no_manifest(ends: list[int]) -> None:
    steps = [{"tokens": end, "rows": 1, "batch_tokens": 1} for end in ends]
    with pytest.raises(ValidationError):
        Batches.model_validate({"device": "cpu", "machine": "a machine", "steps": steps})


@pytest.fixture
def manifest() -> ModelManifest:
    example = Path(schemas.__file__).parent / "examples" / "model-manifest.minimal.json"
    return ModelManifest.model_validate_json(example.read_bytes())
