"""The loop at work: in order, all of it, and never more at once than it may hold."""

from collections.abc import Callable

import pytest

from tests.fakes.memory_cluster import MemoryCluster
from tests.fakes.worker import MAX_STEPS, FakeWorker, counter
from tests.unit.worker.asking import QUERIES, answered, ask, committed, expected
from worker.errors import CommitAbortedError
from worker.settings import BatchSettings

Start = Callable[..., FakeWorker]


def test_events_are_answered_in_order(cluster: MemoryCluster, start: Start) -> None:
    ask(cluster, 30)
    worker = start()
    worker.step_until(lambda: committed(cluster) == 30)
    assert answered(cluster) == expected(30)
    assert (
        counter(worker, "answers_total", model=worker.parts.metrics.model, tier="full", degraded="")
        == 30
    )


def test_what_comes_later_is_answered_too(cluster: MemoryCluster, start: Start) -> None:
    worker = start()
    worker.step_until(lambda: worker.broker.polls > 3)
    ask(cluster, 2)
    worker.step_until(lambda: committed(cluster) == 2)
    assert answered(cluster) == expected(2)


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_what_is_in_work_is_bounded(cluster: MemoryCluster, start: Start, prefetch: int) -> None:
    ask(cluster, 200)
    worker = start(batch=BatchSettings(max_events=4, max_pairs=64, prefetch=prefetch))
    worker.graph.gate.clear()
    worker.step_until(lambda: worker.broker.polls > 60)
    assert len(worker.loop._in_work) == prefetch + 2
    assert len(worker.parts.intake) < 2 * 4
    read = 200 - worker.broker.lag()[QUERIES]
    assert read <= (prefetch + 2) * 4 + 2 * 4
    worker.graph.gate.set()
    worker.step_until(lambda: committed(cluster) == 200)
    assert answered(cluster) == expected(200)


def test_a_busy_worker_goes_on_polling(cluster: MemoryCluster, start: Start) -> None:
    ask(cluster, 50)
    worker = start()
    worker.graph.gate.clear()
    worker.step_until(lambda: len(worker.loop._in_work) == 3)
    before = worker.broker.polls
    worker.step_until(lambda: worker.broker.polls == before + 100)
    assert worker.parts.health.alive
    assert answered(cluster) == []


def test_while_one_batch_is_scored_the_next_is_tokenised(
    cluster: MemoryCluster, start: Start
) -> None:
    ask(cluster, 12)
    worker = start(lanes=1)
    worker.graph.gate.clear()
    worker.step_until(lambda: len(worker.loop._in_work) == 3)
    worker.step_until(lambda: all(begun.pending.done() for begun in worker.loop._in_work))
    assert worker.graph.rows == []


def test_after_an_abort_scores_are_not_computed_again(cluster: MemoryCluster, start: Start) -> None:
    ask(cluster, 4)
    worker = start()
    worker.broker.commit_errors.append(CommitAbortedError("on demand"))
    worker.step_until(lambda: committed(cluster) == 4)
    assert len(worker.graph.rows) == len(set(worker.graph.rows))
    assert counter(worker, "commits_total", result="aborted") == 1


def test_ten_times_the_load_is_held_in_the_same_memory(
    cluster: MemoryCluster, start: Start
) -> None:
    peak = {}
    worker = start()
    for load in (20, 200):
        first = committed(cluster)
        ask(cluster, load, first=first)
        peak[load] = 0
        for _ in range(MAX_STEPS):
            if committed(cluster) == first + load:
                break
            worker.loop.step()
            held = len(worker.parts.intake) + sum(
                len(begun.batch.items) for begun in worker.loop._in_work
            )
            peak[load] = max(peak[load], held)
    assert peak[200] <= 3 * 4 + 2 * 4
    assert worker.parts.reranker.scorer._flights == {}


def test_what_is_finished_is_committed_before_the_next_poll(
    cluster: MemoryCluster, start: Start
) -> None:
    ask(cluster, 1)
    worker = start()
    worker.graph.gate.clear()
    worker.step_until(lambda: len(worker.loop._in_work) == 1)
    worker.graph.gate.set()
    worker.loop._in_work[0].wait(60)
    before = worker.broker.polls
    worker.loop.step()
    assert committed(cluster) == 1
    assert worker.broker.polls == before


def test_of_two_rounds_one_polls_however_much_is_finished(
    cluster: MemoryCluster, start: Start
) -> None:
    ask(cluster, 60)
    worker = start(batch=BatchSettings(max_events=2, max_pairs=64))
    while committed(cluster) < 60:
        before = worker.broker.polls
        for _ in range(2):
            for begun in worker.loop._in_work:
                begun.wait(60)
            worker.loop.step()
        assert worker.broker.polls > before
    assert answered(cluster) == expected(60)
