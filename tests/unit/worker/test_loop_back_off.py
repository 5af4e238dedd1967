"""The loop while something is away: it waits, longer each time, and stays a member meanwhile."""

import random
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.fakes.events import event_json
from tests.fakes.memory_cluster import MemoryCluster
from tests.fakes.retriever import FakeRetriever
from tests.fakes.worker import GROUP, STALE_AFTER_S, TOPICS, FakeWorker, counter
from tests.unit.worker.asking import answered, ask, committed, expected
from worker.errors import CommitAbortedError, TransientError, WorkerError
from worker.loop import BACKOFF_FIRST_S, BACKOFF_MAX_S, IDLE_POLL_S

Start = Callable[..., FakeWorker]


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-offs last as long as they may."""
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)


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
