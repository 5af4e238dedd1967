"""Lanes: every pair its own logit, whatever it is batched with, and failures stay alone."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.bundles import open_model
from engine.graph import Logits, OnnxGraph
from engine.lanes import Lanes
from engine.pairs import EncodedPair
from engine.score import Scorer
from tests.fakes.graph import FakeGraph, logit_of
from tests.unit.tiny_retrieval import TOPICS, write_counting_model

BAD = 666
WAIT_S = 60.0


def pair(*ids: int) -> EncodedPair:
    return EncodedPair(np.asarray(ids, dtype=np.int32), document_start=1, truncated=False)


def result(of: "Future[Logits]") -> list[float]:
    logits = of.result(WAIT_S)
    assert logits.dtype == np.float32
    return [float(logit) for logit in logits]


@pytest.fixture
def graph() -> FakeGraph:
    return FakeGraph(fails_on={BAD})


@pytest.fixture(params=[1, 3])
def lanes(graph: FakeGraph, request: pytest.FixtureRequest) -> Iterator[Lanes]:
    running = Lanes(graph, request.param)
    yield running
    graph.gate.set()
    running.close()


def test_logits_come_in_the_order_of_the_pairs(lanes: Lanes) -> None:
    pairs = [pair(*range(1, 1 + n % 7 + 1)) for n in range(50)]
    assert result(lanes.submit(pairs)) == [logit_of(one.ids) for one in pairs]


def test_no_pairs(lanes: Lanes) -> None:
    assert result(lanes.submit([])) == []


def test_a_bad_pair_fails_alone(lanes: Lanes) -> None:
    pairs = [pair(n, 5, 6) for n in range(20)]
    pairs[13] = pair(13, BAD, 6)
    found = result(lanes.submit(pairs))
    assert np.isnan(found[13])
    for n, one in enumerate(pairs):
        assert n == 13 or found[n] == logit_of(one.ids)


def test_two_bad_pairs_beside_each_other(lanes: Lanes) -> None:
    pairs = [pair(n, BAD if n in (3, 4) else 5) for n in range(9)]
    found = result(lanes.submit(pairs))
    assert [n for n, logit in enumerate(found) if np.isnan(logit)] == [3, 4]


def test_a_graph_that_spoils_all_that_goes_with_a_bad_pair(graph: FakeGraph) -> None:
    """Some runtimes raise nothing and give NaN for the whole batch."""

    def spoils(ids: NDArray[np.int64], document_start: NDArray[np.int64]) -> Logits:
        found = graph(ids, document_start)
        return np.full_like(found, np.nan) if BAD in ids else found

    graph.fails_on = set()
    lanes = Lanes(spoils, 2)
    pairs = [pair(n, BAD if n in (3, 4) else 5) for n in range(9)]
    found = result(lanes.submit(pairs))
    lanes.close()
    assert [n for n, logit in enumerate(found) if np.isnan(logit)] == [3, 4]
    assert [logit for logit in found if not np.isnan(logit)] == [
        logit_of(pairs[n].ids) for n in range(9) if n not in (3, 4)
    ]


def test_a_graph_that_gives_too_few_logits_ends_no_lane(graph: FakeGraph) -> None:
    lanes = Lanes(lambda ids, starts: graph(ids, starts)[:-1], 1)
    for _ in range(2):
        assert np.isnan(result(lanes.submit([pair(1), pair(2), pair(3)]))).all()
    lanes.close()


def test_all_bad(lanes: Lanes, graph: FakeGraph) -> None:
    graph.down = True
    assert np.isnan(result(lanes.submit([pair(n, 1) for n in range(5)]))).all()
    graph.down = False
    assert result(lanes.submit([pair(1, 2)])) == [logit_of(pair(1, 2).ids)]


def test_many_jobs_at_once(lanes: Lanes) -> None:
    jobs = [[pair(job, n, *range(n % 5)) for n in range(job % 9)] for job in range(40)]
    futures = [lanes.submit(job) for job in jobs]
    for job, future in zip(jobs, futures, strict=True):
        assert result(future) == [logit_of(one.ids) for one in job]


def test_a_cancelled_job_is_skipped(lanes: Lanes, graph: FakeGraph) -> None:
    graph.gate.clear()
    running = [lanes.submit([pair(n)]) for n in range(lanes.count)]
    given_up = lanes.submit([pair(99, n, *range(n)) for n in range(10)])
    after = lanes.submit([pair(7, 7)])
    assert given_up.cancel()
    graph.gate.set()
    assert result(after) == [logit_of(pair(7, 7).ids)]
    for number, future in enumerate(running):
        assert result(future) == [logit_of(pair(number).ids)]
    with pytest.raises(CancelledError):
        given_up.result(WAIT_S)
    assert not any(row[0] == 99 for row in graph.rows)


def test_a_job_that_is_cancelled_halfway_ends(lanes: Lanes, graph: FakeGraph) -> None:
    graph.gate.clear()
    halfway = lanes.submit([pair(1, *range(n)) for n in range(10)])
    assert graph.entered.wait(WAIT_S)
    assert halfway.cancel()
    graph.gate.set()
    assert result(lanes.submit([pair(2)])) == [logit_of(pair(2).ids)]
    assert halfway.cancelled()


def test_stats_count_what_was_scored(lanes: Lanes) -> None:
    assert (lanes.stats.pairs, lanes.stats.tokens) == (0, 0)
    result(lanes.submit([pair(1, 2, 3), pair(4, 5, 6), pair(7)]))
    lanes.close()  # the figures of a batch are added after its result
    assert (lanes.stats.pairs, lanes.stats.tokens) == (3, 7)
    assert lanes.stats.busy_s > 0


def test_closing_finishes_what_is_queued(graph: FakeGraph) -> None:
    lanes = Lanes(graph, 2)
    futures = [lanes.submit([pair(n)]) for n in range(20)]
    lanes.close()
    assert all(future.done() for future in futures)
    assert not any(thread.name.startswith("lane-") for thread in threading.enumerate())


def test_lanes_work_side_by_side() -> None:
    barrier = threading.Barrier(3)

    class Meeting:
        def __call__(self, ids: object, document_start: object) -> Logits:
            barrier.wait(WAIT_S)  # nobody passes alone
            return np.zeros(1, dtype=np.float32)

    lanes = Lanes(Meeting(), 3)
    assert result(lanes.submit([pair(1), pair(1, 2), pair(1, 2, 3)])) == [0.0, 0.0, 0.0]
    lanes.close()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_counting_model(tmp_path_factory.mktemp("counting"), "file")


@pytest.fixture(scope="module")
def scorer(bundle: Path) -> Iterator[Scorer]:
    opened = Scorer.open(open_model(bundle), lanes=2)
    yield opened
    opened.close()


words = st.lists(st.sampled_from(TOPICS), max_size=12).map(" ".join)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(words, words), max_size=20))
def test_batched_equals_single_on_a_real_graph(
    scorer: Scorer, pairs: Sequence[tuple[str, str]]
) -> None:
    together = scorer.score(pairs)
    assert together == [scorer.score([one])[0] for one in pairs]
    assert [one.logit for one in together] == [
        float(document.split().count("file")) for _, document in pairs
    ]


def test_token_types_tell_the_query_from_the_document(bundle: Path) -> None:
    graph = OnnxGraph.open(open_model(bundle))
    file_id = 2
    ids = np.asarray([[file_id, 1, file_id, 1], [file_id, file_id, file_id, 1]], dtype=np.int64)
    assert graph(ids, np.asarray([2, 1], dtype=np.int64)).tolist() == [1.0, 2.0]
