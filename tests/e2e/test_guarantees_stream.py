"""Rebalances, bad networks, deadlines, memory and orderly ends, on a real broker."""

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from schemas.events import RankedList
from tests.chaos.faults import Fault
from tests.chaos.load import TRACE_ID, Event, make_events
from tests.chaos.settings import UNTIMED
from tests.chaos.verdict import assert_no_gap
from tests.checker import read_topic, wait_for_count
from tests.e2e.chaos_bench import (
    ANSWER_TIMEOUT_S,
    MakeBench,
    await_end,
    await_reached,
    await_ready,
)
from tests.services.kafka import KafkaCluster
from tests.services.process import await_condition
from tests.services.proxy import Proxy
from tests.services.topics import Topics, create_topics
from tests.services.worker import WorkerProcess

MakeTopics = Callable[..., Topics]
Note = Callable[[str, object], None]
MEBIBYTE = 1024 * 1024


def members(bootstrap: str, group: str) -> int:
    """How many members the broker counts in a group."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    return len(admin.describe_consumer_groups([group])[group].result().members)


def shares(workers: list[WorkerProcess]) -> list[float]:
    return [share(worker) for worker in workers]


def share(worker: WorkerProcess) -> float:
    """How many partitions a worker has; none while it does not answer, as after its end."""
    try:
        return worker.metric("kafka_reranker_assigned_partitions")
    except OSError:
        return 0.0


def test_partitions_move_while_batches_are_scored(
    kafka: KafkaCluster, topics: MakeTopics, benches: MakeBench
) -> None:
    """Members come and go while each has batches in work; order holds within each partition."""
    bench = benches(kafka.bootstrap_servers, topics(queries=4, results=2, feedback=2))
    bench.ask(make_events(600, seed=11))
    slow = {"score_ms": 150, **UNTIMED, "KAFKA__SESSION_TIMEOUT_MS": "10000"}
    first, _ = bench.faulty(None, **slow)  # type: ignore[arg-type]
    wait_for_count(bench.bootstrap, bench.topics.results, 20)
    others = [bench.faulty(None, **slow)[0] for _ in range(2)]  # type: ignore[arg-type]
    await_ready(*others)
    await_condition(lambda: min(shares([first, *others])) >= 1, ANSWER_TIMEOUT_S, bench.describe)
    others[0].process.terminate()
    assert others[0].process.exit_code == 0, others[0].log()
    verdict = bench.check()
    assert verdict.misordered == 0
    assert first.metric("kafka_reranker_rebalances_total") >= 3


@pytest.mark.parametrize("trouble", ["stall", "black_hole", "refuse", "cut"])
def test_networks_that_fail(
    kafka_cluster: Callable[..., KafkaCluster], benches: MakeBench, trouble: str
) -> None:
    """For longer than all time-outs, or for a moment only; a worker that ends is started again."""
    with Proxy() as proxy:
        cluster = kafka_cluster(
            listeners={"CLIENTS": "PLAINTEXT"}, advertised={"CLIENTS": proxy.address}
        )
        proxy.target = cluster.address(1, "CLIENTS")
        bench = benches(cluster.bootstrap_servers, create_topics(cluster))
        bench.ask(make_events(300, seed=12))
        # A cut is over at once: what has it give up is another trouble.
        more = UNTIMED if trouble == "cut" else {}
        worker, signals = bench.faulty(
            Fault("wait", "after", "results", 40),
            proxy.address,
            **more,  # type: ignore[arg-type]
        )
        await_reached(worker, signals)
        getattr(proxy, trouble)()
        signals.go()
        if trouble == "cut":
            bench.await_committed(80)
        else:
            # The steps end within the watchdog's time, one way or the other.
            await_condition(
                lambda: not worker.process.alive or "before:abort" in signals.steps(),
                ANSWER_TIMEOUT_S,
                bench.describe,
            )
        proxy.open()
        bench.worker(proxy.address)
        bench.check()


def test_sigterm_drains_and_leaves(
    kafka: KafkaCluster, topics: MakeTopics, benches: MakeBench
) -> None:
    """What was begun is committed, the exit code is 0, and the group is left at once."""
    bench = benches(kafka.bootstrap_servers, topics())
    bench.ask(make_events(200, seed=13, bad_share=0.0))
    # It waits in a commit, while the batches behind it are in work.
    fault = Fault("wait", "before", "commit", 3)
    worker, signals = bench.faulty(fault, score_ms=200, **UNTIMED)  # type: ignore[arg-type]
    await_reached(worker, signals)
    os.kill(worker.process.pid, signal.SIGTERM)
    signals.go()
    assert await_end(worker) == 0, worker.log()
    committed = signals.steps().count("after:commit")
    assert committed > 3, "the batches in work were thrown away"
    assert signals.steps().count("before:begin") == committed
    assert len(read_topic(bench.bootstrap, bench.topics.results)) < 200, "nothing was left"
    assert_no_gap(bench.bootstrap, bench.topics)
    # Long before its session would have ended.
    await_condition(
        lambda: members(bench.bootstrap, bench.topics.group_id) == 0, 10, lambda: "it did not leave"
    )
    bench.worker()
    bench.check()


def test_deadlines_that_have_passed_are_answered_too(
    kafka: KafkaCluster, topics: MakeTopics, benches: MakeBench
) -> None:
    """Even where the deadline passed while nobody worked: never in silence, never in full."""
    bench = benches(kafka.bootstrap_servers, topics())
    events = [
        Event(one.query_id, json.dumps(json.loads(one.value) | {"deadline_ms": 1}).encode())
        for one in make_events(100, seed=14, bad_share=0.0)
    ]
    bench.ask(events)
    bench.worker()
    bench.check()
    found = read_topic(bench.bootstrap, bench.topics.results)
    lists = [RankedList.model_validate_json(record.value or b"") for record in found]
    assert Counter((one.tier, one.degraded) for one in lists) == {
        ("retrieval_order", "deadline"): 100
    }
    assert all(len(one.ranking) == 3 for one in lists)


def test_the_trace_goes_from_end_to_end(
    kafka: KafkaCluster, topics: MakeTopics, benches: MakeBench
) -> None:
    """The trace id of a query event is on its list, its impression, its dead letter and its log."""
    bench = benches(kafka.bootstrap_servers, topics())
    events = make_events(20, seed=15, bad_share=0.0)
    trace = (("traceparent", f"00-{TRACE_ID}-b7ad6b7169203331-01".encode()), ("tracestate", b"a=b"))
    good = [Event(one.query_id, one.value, headers=trace) for one in events]
    bench.ask([*good, Event("bad", b"\xff", bad=True, headers=trace)])
    worker = bench.worker(LOG__LEVEL="debug", **UNTIMED)
    bench.check()
    for topic in (bench.topics.results, bench.topics.feedback, bench.topics.dead_letters):
        for record in read_topic(bench.bootstrap, topic):
            found = record.header["traceparent"]
            assert found is not None
            assert found.split(b"-")[1] == TRACE_ID.encode()
            assert record.header["tracestate"] == b"a=b"
    said = [json.loads(line) for line in worker.log().splitlines() if line.startswith("{")]
    traced = Counter(line["event"] for line in said if line.get("trace_id") == TRACE_ID)
    assert traced["answered"] == 20
    assert traced["dead letter"] == 1


def peak_bytes(worker: WorkerProcess) -> int:
    """The most memory that a process has held."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def large_events(count: int, first: int, size: int) -> list[Event]:
    text = "file " * (size // 5)
    return [
        Event(
            f"big-{number}",
            json.dumps(
                {
                    "query_id": f"big-{number}",
                    "query": f"file {number}",
                    "candidates": [{"doc_id": "a", "text": f"{number} {text}"}],
                }
            ).encode(),
        )
        for number in range(first, first + count)
    ]


def test_ten_times_the_backlog_takes_no_more_memory(
    kafka: KafkaCluster, topics: MakeTopics, benches: MakeBench, record_property: Note
) -> None:
    """Queues are bounded: what waits, waits on the topic."""
    bench = benches(kafka.bootstrap_servers, topics())
    size = 100_000
    bench.ask(large_events(100, 0, size))
    worker = bench.worker(REDIS__MEMORY_BYTES="1000000", **UNTIMED)
    bench.await_committed()
    before = peak_bytes(worker)
    worker.process.pause()  # All of it waits, before the first of it is read.
    bench.ask(large_events(1_000, 100, size))
    worker.process.resume()
    bench.check()
    grown = peak_bytes(worker) - before
    record_property("figures", f"{grown / MEBIBYTE:.1f} MiB more for {1_000 * size / MEBIBYTE:.0f}")
    assert grown < 0.5 * 1_000 * size


def test_start_refuses_what_would_lose_exactly_once(benches: MakeBench, topics: MakeTopics) -> None:
    """Auto-commit, `latest`, uncommitted reads, and time-outs in the wrong order."""
    bench = benches("127.0.0.1:1", Topics("q", "r", "f", "d", "g"))
    wrong = {
        "KAFKA__ENABLE_AUTO_COMMIT": "true",
        "KAFKA__AUTO_OFFSET_RESET": "latest",
        "KAFKA__ISOLATION_LEVEL": "read_uncommitted",
        "KAFKA__DELIVERY_TIMEOUT_MS": "60000",
        "KAFKA__MAX_POLL_INTERVAL_MS": "1000",
    }
    workers = [bench.worker(**{name: value}) for name, value in wrong.items()]
    for worker, name in zip(workers, wrong, strict=True):
        assert await_end(worker) == 78, name
        said = worker.log().splitlines()
        assert len(said) == 1, said
        assert said[0].startswith("kafka-reranker: setting kafka"), said


def test_one_of_two_that_stops_is_replaced(
    kafka: KafkaCluster, topics: MakeTopics, benches: MakeBench
) -> None:
    """SIGSTOP and SIGCONT at random moments of the work of two."""
    bench = benches(kafka.bootstrap_servers, topics(queries=2))
    first, second = bench.worker(), bench.worker()
    await_ready(first, second)

    def have(wanted: list[float], *workers: WorkerProcess) -> bool:
        bench.start_again()  # One that a stalled machine has ended.
        return shares(list(workers)) == wanted

    await_condition(lambda: have([1, 1], first, second), ANSWER_TIMEOUT_S, bench.describe)
    bench.ask(make_events(1_200, seed=16))
    wait_for_count(bench.bootstrap, bench.topics.results, 30)
    first.process.pause()
    # The other one has both partitions: the session of the first is over.
    await_condition(lambda: have([2], second), ANSWER_TIMEOUT_S, bench.describe)
    first.process.resume()
    await_condition(lambda: have([1, 1], first, second), ANSWER_TIMEOUT_S, bench.describe)
    bench.check()
