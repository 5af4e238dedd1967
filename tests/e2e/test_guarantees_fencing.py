"""Stalls and late comers: what the client says is not believed, the broker decides."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import pytest
from kafka import TopicPartition

from tests.chaos.faults import Fault
from tests.chaos.load import make_events
from tests.chaos.settings import PATIENT, UNTIMED, quick_settings
from tests.checker import Outgoing, end_offsets, produce, read_topic, wait_for_count
from tests.e2e.chaos_bench import (
    ANSWER_TIMEOUT_S,
    Bench,
    MakeBench,
    await_end,
    await_given_up,
    await_reached,
)
from tests.services.kafka import KafkaCluster
from tests.services.process import await_condition
from tests.services.proxy import Proxy
from tests.services.topics import Topics, create_topics
from tests.services.worker import await_metric
from worker.errors import CommitAbortedError, FencedError
from worker.kafka_broker import KafkaBroker
from worker.kafka_client import make_consumer, make_producer
from worker.records import Outgoing as OurOutgoing
from worker.records import next_offsets
from worker.settings import KafkaSettings
from worker.watchdog import Watchdog

Clusters = Callable[..., KafkaCluster]
EVENTS = 60


@contextmanager
def behind_proxy(kafka_cluster: Clusters) -> Iterator[tuple[Proxy, KafkaCluster]]:
    """A broker whose second listener is reached through a proxy."""
    with Proxy() as proxy:
        cluster = kafka_cluster(
            listeners={"CLIENTS": "PLAINTEXT"}, advertised={"CLIENTS": proxy.address}
        )
        proxy.target = cluster.address(1, "CLIENTS")
        yield proxy, cluster


def test_a_result_that_times_out_takes_its_offset_along(
    kafka: KafkaCluster, topics: Callable[..., Topics], benches: MakeBench
) -> None:
    """Hazard 1. The client would commit the offset alone; the worker gives up, and tries again.

    Also: it tries again while it stays a member, with its partitions paused, after a random time.
    """
    bench = benches(kafka.bootstrap_servers, topics())
    bench.ask(make_events(EVENTS, seed=1, bad_share=0.0))
    worker, _ = bench.faulty(Fault("lose", "before", "results", 17), **UNTIMED)  # type: ignore[arg-type]
    bench.check()
    await_metric(worker, 1, "kafka_reranker_commits_total", result="aborted")
    _, afterwards = worker.log().split("trying again", 1)
    assert "partitions moved" not in afterwards


def test_the_witness_sees_what_the_client_would_lose(
    kafka: KafkaCluster, topics: Callable[..., Topics], benches: MakeBench
) -> None:
    """The same by a worker that passes over the error: an event is lost, and the checker says so.

    Without this, nobody would know whether the test above can fail.
    """
    bench = benches(kafka.bootstrap_servers, topics())
    bench.ask(make_events(EVENTS, seed=1, bad_share=0.0))
    fault = Fault("lose", "before", "results", 17)
    bench.faulty(fault, unsafe=True, **UNTIMED)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="1 lost"):
        bench.check()


def test_results_that_a_stalled_network_holds_back_are_not_written_twice(
    kafka_cluster: Clusters, benches: MakeBench
) -> None:
    """What the network held back arrives after the worker has given up, and has to be refused."""
    with behind_proxy(kafka_cluster) as (proxy, cluster):
        bench = benches(cluster.bootstrap_servers, create_topics(cluster))
        bench.ask(make_events(EVENTS, seed=1, bad_share=0.0))
        # Until a transaction has all its partitions, a request that times out is fatal.
        worker, signals = bench.faulty(
            Fault("wait", "after", "feedback", 17),
            proxy.address,
            **PATIENT,  # type: ignore[arg-type]
            KAFKA__SESSION_TIMEOUT_MS="30000",
        )
        await_reached(worker, signals)
        proxy.stall()
        signals.go()
        await_condition(lambda: "before:abort" in signals.steps(), ANSWER_TIMEOUT_S, bench.describe)
        proxy.open()
        await_condition(
            lambda: not worker.process.alive or "after:abort" in signals.steps(),
            ANSWER_TIMEOUT_S,
            bench.describe,
        )
        # The first one may have ended, or end with its next transaction; the other goes on.
        bench.worker()
        bench.check()


def test_a_transaction_that_the_broker_gave_up_is_not_committed(
    kafka: KafkaCluster, topics: Callable[..., Topics], benches: MakeBench
) -> None:
    """Hazard 2: InvalidProducerEpoch for records within a transaction, which a commit hides."""
    bench = benches(kafka.bootstrap_servers, topics())
    bench.ask(make_events(EVENTS, seed=2, bad_share=0.0))
    # Waits with the first result of its third transaction on the broker, the others not yet.
    worker, signals = bench.faulty(
        Fault("wait", "after", "results", 17), KAFKA__WATCHDOG_MARGIN_MS="60000"
    )
    await_reached(worker, signals)
    await_given_up(bench)
    before = signals.steps().count("before:commit")
    signals.go()
    assert await_end(worker) == 70, worker.log()
    assert signals.steps().count("before:commit") == before, "this one was not to be tried"
    bench.worker()
    bench.check()


def settings_of(bench: Bench) -> KafkaSettings:
    prefix = "RERANKER_KAFKA__"
    flat = quick_settings(bench.bootstrap, bench.topics, bench.model_bundle, **UNTIMED)
    values: dict[str, Any] = {
        name.removeprefix(prefix).lower(): value
        for name, value in flat.items()
        if name.startswith(prefix) and "TOPICS" not in name
    }
    names = asdict(bench.topics)
    del names["group_id"]
    return KafkaSettings(**values, topics=names)


@contextmanager
def joined(settings: KafkaSettings) -> Iterator[KafkaBroker]:
    broker = KafkaBroker(
        make_consumer(settings, 1024 * 1024), make_producer(settings), settings, Watchdog()
    )
    broker.join()
    try:
        yield broker
    finally:
        broker.close()


def test_after_an_abort_the_position_is_the_committed_offset(
    kafka: KafkaCluster, topics: Callable[..., Topics], benches: MakeBench
) -> None:
    """And what was read is read again from there, under a lease of its own."""
    bench = benches(kafka.bootstrap_servers, topics())
    sent = [Outgoing(b"k%d" % number, b"v") for number in range(20)]
    produce(bench.bootstrap, bench.topics.queries, sent)
    names = bench.topics
    results = [OurOutgoing(names.results, b"k", b"v", ())]
    with joined(settings_of(bench)) as broker:

        def read(count: int) -> Any:
            """Poll until records come; after a move, from the committed offsets."""
            while True:
                polled = broker.poll(count, 0.2)
                if polled.moved:
                    broker.rewind()
                if polled.records:
                    return polled

        first = read(5)
        broker.commit(results, next_offsets(first.records), first.lease)
        committed = first.records[-1].offset + 1
        second = read(5)
        assert second.records[0].offset == committed
        stale = second.lease.__class__(names.group_id, second.lease.generation - 1, "stranger")
        with pytest.raises(CommitAbortedError):
            broker.commit(results, next_offsets(second.records), stale)
        broker.rewind()
        place = TopicPartition(names.queries, 0)
        assert broker._consumer.position(place) == committed == broker._consumer.committed(place)
        again = read(5)
        assert [one.offset for one in again.records] == [one.offset for one in second.records]
        broker.commit(results, next_offsets(again.records), again.lease)
        assert broker._consumer.committed(place) == again.records[-1].offset + 1
    wait_for_count(bench.bootstrap, names.results, 2)
    assert len(read_topic(bench.bootstrap, names.results)) == 2


def test_of_two_producers_with_one_id_the_older_one_ends(
    kafka: KafkaCluster, topics: Callable[..., Topics], benches: MakeBench
) -> None:
    """Only a setting can bring this about: by default, each process has an id of its own."""
    bench = benches(kafka.bootstrap_servers, topics())
    bench.ask(make_events(EVENTS, seed=6))
    settings = settings_of(bench).model_copy(update={"transactional_id": "shared"})
    with joined(settings) as older:
        polled = older.poll(5, 0.2)
        while not polled.records:
            if polled.moved:
                older.rewind()
            polled = older.poll(5, 0.2)
        make_producer(settings).close(timeout=5)
        results = [OurOutgoing(bench.topics.results, b"k", b"v", ())]
        assert polled.lease is not None
        with pytest.raises(FencedError):
            older.commit(results, next_offsets(list(polled.records)), polled.lease)
    assert end_offsets(bench.bootstrap, bench.topics.results) in ({0: 0}, {0: 1}, {0: 2})
    assert read_topic(bench.bootstrap, bench.topics.results) == []
