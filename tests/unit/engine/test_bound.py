"""Buffers that stay change no score, and threads don't share them."""

import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.bound import SHAPES_KEPT, BoundGraph
from engine.bundles import open_model
from engine.devices import BucketedGraph
from engine.graph import OnnxGraph
from engine.lanes import Lanes
from engine.pairs import EncodedPair
from tests.unit.engine.tiny_encoder import LONGEST, WORDS, write_tiny_encoder

SHAPES = [(rows, tokens) for rows in (1, 2, 3, 8, 13, 32) for tokens in (4, 9, 16, 33, 64, LONGEST)]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> OnnxGraph:
    return OnnxGraph.open(open_model(write_tiny_encoder(tmp_path_factory.mktemp("m") / "tiny")))


def batch(rows: int, tokens: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    chance = np.random.default_rng((seed, rows, tokens))
    ids = chance.integers(0, WORDS, size=(rows, tokens))
    return ids, chance.integers(1, tokens, size=rows)


def test_scores_are_equal_bit_for_bit_whatever_the_shape(graph: OnnxGraph) -> None:
    bound = BucketedGraph(BoundGraph(graph, "cpu"))
    for seed in range(2):  # the second time in buffers that hold what the first left
        for shape in SHAPES:
            ids, starts = batch(*shape, seed)
            assert bound(ids, starts).tolist() == graph(ids, starts).tolist()


def test_a_result_is_not_overwritten_by_the_next_batch(graph: OnnxGraph) -> None:
    bound = BoundGraph(graph, "cpu")
    first = bound(*batch(4, 16, seed=1))
    before = first.tolist()
    second = bound(*batch(4, 16, seed=2))
    assert first.tolist() == before != second.tolist()
    assert first.dtype == np.float32


def test_a_shape_that_comes_again_is_bound_no_second_time(graph: OnnxGraph) -> None:
    bound = BoundGraph(graph, "cpu")
    bound(*batch(4, 16))
    (buffers,) = bound.threads.kept.values()
    bound(*batch(4, 16, seed=1))
    assert list(bound.threads.kept.values()) == [buffers]


def test_there_is_a_bound_on_the_shapes_that_are_kept(graph: OnnxGraph) -> None:
    bound = BoundGraph(graph, "cpu")
    shapes = [(rows, tokens) for tokens in range(4, 52) for rows in range(1, 7)]
    assert len(shapes) > SHAPES_KEPT
    for shape in shapes:
        bound(*batch(*shape))
    assert len(bound.threads.kept) == SHAPES_KEPT
    ids, starts = batch(*shapes[0])
    assert bound(ids, starts).tolist() == graph(ids, starts).tolist()


def test_many_threads_at_once_score_the_same(graph: OnnxGraph) -> None:
    bound = BucketedGraph(BoundGraph(graph, "cpu"))
    wrong: list[tuple[int, int]] = []
    together = threading.Barrier(4)

    def work(seed: int) -> None:
        together.wait(60)
        for shape in SHAPES:
            ids, starts = batch(*shape, seed)
            if bound(ids, starts).tolist() != graph(ids, starts).tolist():
                wrong.append(shape)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_lanes_score_the_same_through_it(graph: OnnxGraph) -> None:
    chance = np.random.default_rng(3)
    pairs = [
        EncodedPair(chance.integers(0, WORDS, length).astype(np.int32), int(length) // 3, False)
        for length in chance.integers(4, LONGEST + 1, 200)
    ]
    found = []
    for runs in (graph, BucketedGraph(BoundGraph(graph, "cpu"))):
        lanes = Lanes(runs, 3)
        found.append(lanes.submit(pairs).result(60).tolist())
        lanes.close()
    assert found[0] == found[1]


def test_a_batch_that_fails_leaves_the_buffers_usable(graph: OnnxGraph) -> None:
    bound = BoundGraph(graph, "cpu")
    ids, starts = batch(2, 8)
    bound(ids, starts)
    with pytest.raises(Exception, match="indices element out of data bounds"):
        bound(np.full_like(ids, WORDS + 1), starts)
    assert bound(ids, starts).tolist() == graph(ids, starts).tolist()
