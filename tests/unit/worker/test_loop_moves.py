"""The loop when partitions move, to another worker or back: nothing is lost, nothing done twice."""

from collections.abc import Callable

from tests.fakes.events import event_json
from tests.fakes.graph import FakeGraph
from tests.fakes.memory_cluster import MemoryCluster
from tests.fakes.worker import (
    GROUP,
    TOPICS,
    FakeWorker,
    Options,
    counter,
    new_cluster,
    new_worker,
    step_until,
)
from tests.unit.worker.asking import answered, ask, committed, expected, run_until_drained

Start = Callable[..., FakeWorker]


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


def test_draining_gives_up_what_moved_away(cluster: MemoryCluster, start: Start) -> None:
    ask(cluster, 4)
    worker = start()
    worker.graph.gate.clear()
    worker.step_until(lambda: len(worker.loop._in_work) == 1)
    worker.broker.force_rebalance()
    run_until_drained(worker)
    assert answered(cluster) == []
