"""The loop's manners: how it waits, backs off, drains, and ends."""

import random
import threading
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.fakes.events import event_json
from tests.fakes.graph import FakeGraph
from tests.fakes.memory_cluster import MemoryCluster
from tests.fakes.retriever import FakeRetriever
from tests.fakes.worker import (
    GROUP,
    MAX_STEPS,
    STALE_AFTER_S,
    TOPICS,
    FakeWorker,
    Options,
    counter,
    new_cluster,
    new_worker,
    step_until,
)
from worker.errors import CommitAbortedError, FatalError, FencedError, TransientError, WorkerError
from worker.loop import BACKOFF_FIRST_S, BACKOFF_MAX_S, IDLE_POLL_S
from worker.records import Partition
from worker.settings import BatchSettings

Start = Callable[..., FakeWorker]
QUERIES = Partition(TOPICS.queries, 0)


def ask(cluster: MemoryCluster, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        value = event_json(f"q{number}", texts=[f"text {number}", "same"])
        cluster.produce(TOPICS.queries, value, key=f"q{number}".encode())


def answered(cluster: MemoryCluster) -> list[str]:
    return [(record.key or b"").decode() for record in cluster.read(TOPICS.results)]


def expected(count: int) -> list[str]:
    return [f"q{number}" for number in range(count)]


def committed(cluster: MemoryCluster) -> int:
    return cluster.group(GROUP).committed.get(QUERIES, 0)


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-offs last as long as they may."""
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)


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


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("poll", TransientError("on demand")),
        ("poll", CommitAbortedError("on demand")),
        ("commit", CommitAbortedError("on demand")),
        ("rewind", TransientError("on demand")),
        ("index", TransientError("on demand")),
    ],
)
def test_what_is_away_for_a_while_is_waited_for(
    cluster: MemoryCluster, start: Start, where: str, error: WorkerError
) -> None:
    retriever = FakeRetriever({"d": "text"})
    cluster.produce(TOPICS.queries, event_json("q0"), key=b"q0")
    ask(cluster, 9, first=1)
    worker = start(retriever=retriever)
    worker.loop.step()  # joins
    faults: dict[str, deque[Any]] = {
        "poll": worker.broker.poll_errors,
        "commit": worker.broker.commit_errors,
        "rewind": worker.broker.rewind_errors,
        "index": retriever.errors,
    }
    if where == "rewind":
        worker.broker.force_rebalance()
    faults[where].extend([error] * 4)
    generation = cluster.group(GROUP).generation
    worker.step_until(lambda: committed(cluster) == 10)
    assert not faults[where]
    assert answered(cluster) == expected(10)
    assert cluster.group(GROUP).generation == generation, "the worker lost its membership"


@pytest.mark.usefixtures("no_jitter")
@pytest.mark.parametrize("where", ["commit", "rewind"])
def test_back_offs_double_and_have_a_bound(
    cluster: MemoryCluster, start: Start, where: str
) -> None:
    ask(cluster, 1)
    worker = start()
    failures = 12
    faults = {"commit": worker.broker.commit_errors, "rewind": worker.broker.rewind_errors}[where]
    faults.extend([CommitAbortedError("on demand")] * failures)
    times: list[float] = []
    for left in reversed(range(failures)):
        worker.step_until(lambda left=left: len(faults) == left)  # type: ignore[misc]
        times.append(cluster.clock.monotonic())
    waits = [later - earlier for earlier, later in pairwise(times)]
    for place, wait in enumerate(waits):
        assert wait >= min(BACKOFF_MAX_S, 0.1 * 2**place)
    assert max(waits) < BACKOFF_MAX_S + 1.0
    worker.step_until(lambda: committed(cluster) == 1)


@pytest.mark.usefixtures("no_jitter")
def test_success_ends_the_growth_of_back_offs(cluster: MemoryCluster, start: Start) -> None:
    worker = start()
    for number in range(8):
        ask(cluster, 1, first=number)
        worker.broker.commit_errors.append(CommitAbortedError("on demand"))
        began = cluster.clock.monotonic()
        worker.step_until(lambda number=number: committed(cluster) == number + 1)  # type: ignore[misc]
        assert cluster.clock.monotonic() - began < 2.0


def test_back_offs_have_jitter(start: Start) -> None:
    """First ones, which all have the same limit: workers that failed together come back apart."""
    delays = set()
    for _ in range(20):
        loop = start().loop
        loop._back_off(TransientError("on demand"))
        delays.add(loop._resume_at_s - loop._parts.clock.monotonic())
    assert len(delays) == 20
    assert max(delays) <= BACKOFF_FIRST_S


@pytest.mark.usefixtures("no_jitter")
@pytest.mark.parametrize("where", ["commit", "rewind"])
def test_a_worker_that_backs_off_polls_and_lives(
    cluster: MemoryCluster, start: Start, where: str
) -> None:
    """Otherwise it would lose its partitions, or be restarted for what a restart can't heal."""
    ask(cluster, 1)
    worker = start()
    faults = {"commit": worker.broker.commit_errors, "rewind": worker.broker.rewind_errors}[where]
    faults.extend([TransientError("on demand")] * 20)
    worker.step_until(lambda: len(faults) == 5)
    assert cluster.clock.monotonic() > STALE_AFTER_S
    assert worker.parts.health.alive
    before = cluster.clock.monotonic()
    polls = worker.broker.polls
    worker.step_until(lambda: cluster.clock.monotonic() > before + 1.0)
    assert worker.broker.polls > polls
    assert worker.parts.health.alive


def test_a_broker_that_refuses_polls_is_no_reason_to_restart(
    cluster: MemoryCluster, start: Start
) -> None:
    worker = start()
    worker.broker.poll_errors.extend([TransientError("on demand")] * 2_000)
    worker.step_until(lambda: cluster.clock.monotonic() > 2 * STALE_AFTER_S)
    assert worker.broker.poll_errors
    assert worker.parts.health.alive
    worker.broker.poll_errors.clear()
    ask(cluster, 1)
    worker.step_until(lambda: committed(cluster) == 1)


@pytest.mark.usefixtures("no_jitter")
@pytest.mark.parametrize("at_once", [True, False])
def test_polls_that_fail_at_once_do_not_spin(
    cluster: MemoryCluster, start: Start, at_once: bool
) -> None:
    """Ten rounds a second at most, as when nothing comes."""
    worker = start()
    worker.broker.fails_at_once = at_once
    worker.broker.poll_errors.extend([TransientError("on demand")] * 200)
    before = cluster.clock.monotonic()
    worker.step_until(lambda: not worker.broker.poll_errors)
    took_s = cluster.clock.monotonic() - before
    assert took_s == pytest.approx(200 * IDLE_POLL_S, rel=0.05)


@pytest.mark.parametrize("where", ["poll", "rewind"])
def test_only_transactions_that_were_given_up_count_as_aborted(
    cluster: MemoryCluster, start: Start, where: str
) -> None:
    ask(cluster, 1)
    worker = start()
    faults = {"poll": worker.broker.poll_errors, "rewind": worker.broker.rewind_errors}[where]
    faults.append(TransientError("on demand"))
    worker.step_until(lambda: committed(cluster) == 1)
    assert not faults
    assert counter(worker, "commits_total", result="aborted") == 0


def test_while_it_backs_off_nothing_is_read(cluster: MemoryCluster, start: Start) -> None:
    ask(cluster, 1)
    worker = start()
    worker.broker.commit_errors.append(CommitAbortedError("on demand"))
    worker.step_until(lambda: not worker.broker.commit_errors)
    worker.loop._resume_at_s = cluster.clock.monotonic() + 50.0
    ask(cluster, 1, first=1)
    while cluster.clock.monotonic() < worker.loop._resume_at_s - 1.0:
        worker.loop.step()
        assert len(worker.parts.intake) == 0
        assert not worker.loop._in_work
    worker.step_until(lambda: committed(cluster) == 2)
    assert answered(cluster) == expected(2)


def test_after_an_abort_scores_are_not_computed_again(cluster: MemoryCluster, start: Start) -> None:
    ask(cluster, 4)
    worker = start()
    worker.broker.commit_errors.append(CommitAbortedError("on demand"))
    worker.step_until(lambda: committed(cluster) == 4)
    assert len(worker.graph.rows) == len(set(worker.graph.rows))
    assert counter(worker, "commits_total", result="aborted") == 1


def test_what_moved_away_is_not_committed(cluster: MemoryCluster, start: Start) -> None:
    ask(cluster, 8)
    worker = start()
    worker.graph.gate.clear()
    worker.step_until(lambda: len(worker.loop._in_work) == 2)
    worker.broker.force_rebalance()
    worker.graph.gate.set()
    worker.step_until(lambda: committed(cluster) == 8)
    assert answered(cluster) == expected(8)
    assert counter(worker, "rebalances_total") == 2


def test_a_second_worker_takes_its_share() -> None:
    wide = new_cluster(queries=4)
    for number in range(40):
        wide.produce(TOPICS.queries, event_json(f"q{number}", texts=["a"]), partition=number % 4)
    workers = [new_worker(wide, Options()), new_worker(wide, Options())]
    step_until(workers, lambda: sum(wide.group(GROUP).committed.values()) == 40)
    assert sorted(answered(wide)) == sorted(expected(40))
    assert {len(worker.broker.assigned()) for worker in workers} == {2}
    for worker in workers:
        worker.close()


def test_an_unknown_error_in_begin_ends_the_loop(cluster: MemoryCluster, start: Start) -> None:
    """A bug must be seen: going on could skip events in silence."""
    ask(cluster, 1)
    worker = start()

    class Broken:
        def begin(self, *_: object) -> None:
            raise ZeroDivisionError("a bug")

    object.__setattr__(worker.parts, "reranker", Broken())
    with pytest.raises(ZeroDivisionError):
        worker.step_until(lambda: False)
    assert committed(cluster) == 0
    worker.loop._in_work.clear()


@pytest.mark.parametrize("error", [FatalError("the end"), FencedError("the end")])
@pytest.mark.parametrize("where", ["poll", "commit", "rewind"])
def test_a_fatal_error_ends_the_loop(
    cluster: MemoryCluster, start: Start, where: str, error: FatalError
) -> None:
    ask(cluster, 1)
    worker = start()
    faults = {
        "poll": worker.broker.poll_errors,
        "commit": worker.broker.commit_errors,
        "rewind": worker.broker.rewind_errors,
    }[where]
    faults.append(error)
    with pytest.raises(FatalError, match="the end"):
        worker.loop.run()
    assert answered(cluster) == []


def run_until_drained(worker: FakeWorker) -> None:
    worker.loop.stop()
    worker.graph.gate.set()
    worker.loop.run()


def test_draining_commits_what_is_in_work(cluster: MemoryCluster, start: Start) -> None:
    ask(cluster, 100)
    worker = start()
    worker.graph.gate.clear()
    worker.step_until(lambda: len(worker.loop._in_work) == 3)
    in_work = sum(len(begun.batch.items) for begun in worker.loop._in_work)
    run_until_drained(worker)
    assert committed(cluster) == in_work < 100
    assert answered(cluster) == expected(in_work)
    assert not worker.parts.health.ready


def test_draining_goes_on_polling(cluster: MemoryCluster, start: Start) -> None:
    """A member that stops polling for long is taken for dead, and its commit is refused."""
    ask(cluster, 4)
    worker = start()
    worker.graph.gate.clear()
    worker.step_until(lambda: len(worker.loop._in_work) == 1)
    before = worker.broker.polls
    threading.Timer(0.1, worker.graph.gate.set).start()
    worker.loop.stop()
    worker.loop.run()
    assert worker.broker.polls > before + 3
    assert committed(cluster) == 4


def test_draining_has_an_end(cluster: MemoryCluster, start: Start) -> None:
    ask(cluster, 4)
    worker = start(drain_timeout_s=0.5)
    worker.graph.gate.clear()
    worker.step_until(lambda: len(worker.loop._in_work) == 1)
    worker.loop.stop()
    worker.loop.run()
    assert committed(cluster) == 0
    assert answered(cluster) == []


@pytest.mark.parametrize("where", ["poll", "commit"])
def test_draining_ends_quietly_when_the_broker_goes_away(
    cluster: MemoryCluster, start: Start, where: str
) -> None:
    """The events are read again by the next owner: no reason to exit with an error."""
    ask(cluster, 4)
    worker = start()
    worker.graph.gate.clear()
    worker.step_until(lambda: len(worker.loop._in_work) == 1)
    faults = {"poll": worker.broker.poll_errors, "commit": worker.broker.commit_errors}[where]
    faults.append(CommitAbortedError("on demand"))
    run_until_drained(worker)
    assert answered(cluster) == []


def test_draining_gives_up_what_moved_away(cluster: MemoryCluster, start: Start) -> None:
    ask(cluster, 4)
    worker = start()
    worker.graph.gate.clear()
    worker.step_until(lambda: len(worker.loop._in_work) == 1)
    worker.broker.force_rebalance()
    run_until_drained(worker)
    assert answered(cluster) == []


def test_the_next_worker_goes_on_where_the_last_stopped(
    cluster: MemoryCluster, start: Start
) -> None:
    ask(cluster, 40)
    first = start()
    first.step_until(lambda: committed(cluster) >= 8)
    first.close()
    second = start(graph=FakeGraph())
    second.step_until(lambda: committed(cluster) == 40)
    assert answered(cluster) == expected(40)


def test_stopping_before_the_first_poll(cluster: MemoryCluster, start: Start) -> None:
    worker = start()
    worker.loop.stop()
    worker.loop.run()
    assert worker.broker.polls == 0


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
