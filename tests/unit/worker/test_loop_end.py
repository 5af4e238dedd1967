"""What ends the loop, and what it still does then."""

from collections.abc import Callable

import pytest

from tests.fakes.memory_cluster import MemoryCluster
from tests.fakes.worker import FakeWorker
from tests.unit.worker.asking import answered, ask, committed, expected, run_until_drained
from worker.broker import Polled
from worker.errors import CommitAbortedError, FatalError, FencedError

Start = Callable[..., FakeWorker]


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


def test_draining_goes_on_polling(
    cluster: MemoryCluster, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member that stops polling for long is taken for dead, and its commit is refused."""
    ask(cluster, 4)
    worker = start()
    worker.graph.gate.clear()
    worker.step_until(lambda: len(worker.loop._in_work) == 1)
    before, poll = worker.broker.polls, worker.broker.poll

    def poll_until_scored(max_records: int, timeout_s: float) -> Polled:
        if worker.broker.polls >= before + 3:
            worker.graph.gate.set()
        return poll(max_records, timeout_s)

    monkeypatch.setattr(worker.broker, "poll", poll_until_scored)
    worker.loop.stop()
    worker.loop.run()
    assert worker.broker.polls > before + 3
    assert committed(cluster) == 4


def test_draining_has_an_end(cluster: MemoryCluster, start: Start) -> None:
    ask(cluster, 4)
    worker = start(drain_timeout_s=0.05)
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


def test_stopping_before_the_first_poll(cluster: MemoryCluster, start: Start) -> None:
    worker = start()
    worker.loop.stop()
    worker.loop.run()
    assert worker.broker.polls == 0
