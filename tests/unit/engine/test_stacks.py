"""Sequences as they are, or filled up to few lengths behind a mask."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.batches import BatchSize, BatchSizes
from engine.devices import BucketedGraph
from engine.graph import Logits
from engine.lanes import Lanes
from engine.pairs import EncodedPair
from engine.stacks import Exact, Filled
from tests.fakes.graph import FakeGraph, logit_of

PAD = 77


def pair(*ids: int) -> EncodedPair:
    return EncodedPair(np.asarray(ids, dtype=np.int32), document_start=1, truncated=False)


class Masked:
    """Logits of the tokens before each row's end; notes shapes, and what stands behind."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.behind: set[int] = set()

    def __call__(
        self,
        ids: NDArray[np.int64],
        document_start: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> Logits:
        assert ids.shape[:1] == document_start.shape == lengths.shape
        self.shapes.append(ids.shape)
        for row, length in zip(ids, lengths, strict=True):
            self.behind |= set(row[length:].tolist())
        rows = [logit_of(row[:length]) for row, length in zip(ids, lengths, strict=True)]
        return np.asarray(rows, dtype=np.float32)


@given(st.integers(1, 512))
def test_how_far_depends_on_the_length_alone(length: int) -> None:
    filled = Filled(Masked(), PAD, longest=500).length_of(length)
    assert filled >= length
    assert filled % 16 == 0 or filled == max(500, length)
    assert filled - length < 16


def test_what_a_model_reads_at_most_is_not_exceeded() -> None:
    filled = Filled(Masked(), PAD, longest=90)
    assert [filled.length_of(length) for length in (1, 16, 17, 80, 81, 90)] == [
        16,
        16,
        32,
        80,
        90,
        90,
    ]


def test_rows_keep_their_tokens_and_the_rest_is_padding() -> None:
    graph = Masked()
    filled = Filled(graph, PAD, longest=64)
    pairs = [pair(1, 2, 3), pair(*range(10)), pair(4)]
    assert filled.logits(pairs).tolist() == [logit_of(each.ids) for each in pairs]
    assert graph.shapes == [(3, 16)]
    assert graph.behind == {PAD}


def test_lanes_batch_what_is_filled_up_to_one_length() -> None:
    graph = Masked()
    filled = Filled(BucketedGraph(graph), PAD, longest=64)
    chance = np.random.default_rng(2)
    pairs = [pair(*chance.integers(1, 60, length)) for length in range(1, 65)]

    lanes = Lanes(filled, 2, BatchSizes(BatchSize(256, 16_384, powers_of_two=True)))
    found = lanes.submit(pairs).result(60).tolist()
    lanes.close()

    assert found == [logit_of(each.ids) for each in pairs]
    assert sorted(graph.shapes) == [(16, 16), (16, 32), (16, 48), (16, 64)]
    assert lanes.stats.tokens == sum(range(1, 65))  # real ones


def test_lanes_with_a_bad_pair_among_filled_ones() -> None:
    class Fails(Masked):
        def __call__(self, ids: Any, document_start: Any, lengths: Any) -> Logits:
            if 66 in ids:
                raise ValueError
            return super().__call__(ids, document_start, lengths)

    pairs = [pair(*range(n, n + n % 9 + 1)) for n in range(50)]
    pairs[20] = pair(66, 1)
    lanes = Lanes(Filled(Fails(), PAD, longest=64), 2)
    found = lanes.submit(pairs).result(60)
    lanes.close()
    assert np.isnan(found).nonzero()[0].tolist() == [20]


def test_exact_is_the_graph_itself() -> None:
    stack = Exact(FakeGraph())
    pairs = [pair(1, 2, 3), pair(4, 5, 6)]
    assert stack.length_of(3) == 3
    assert stack.logits(pairs).tolist() == [logit_of(each.ids) for each in pairs]
    with pytest.raises(ValueError, match="same shape"):
        stack.logits([pair(1), pair(1, 2)])
