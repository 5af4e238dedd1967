"""What the demo's embedded broker does and does not do: each line of its docstring."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import CorruptRecordError

from demo.broker import KAFKA_PYTHON_SETTINGS, PARTITIONS, EmbeddedBroker
from tests.checker import Outgoing, produce, read_topic

# Metadata that comes during the first join makes a second one, and that takes as long as this: with
# the client's own 30 s it ended behind the 30 s that `read` waited.
SESSION_TIMEOUT_MS = 6_000

NewProducer = Callable[..., KafkaProducer]
NewConsumer = Callable[..., KafkaConsumer]


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        running.create_topics(["queries", "results"])
        yield running


@pytest.fixture
def new_producer(broker: EmbeddedBroker) -> Iterator[NewProducer]:
    with ExitStack() as stack:

        def start(**settings: Any) -> KafkaProducer:
            servers = broker.bootstrap_servers
            producer = KafkaProducer(bootstrap_servers=servers, **KAFKA_PYTHON_SETTINGS, **settings)
            return stack.enter_context(closing(producer))

        yield start


@pytest.fixture
def new_consumer(broker: EmbeddedBroker) -> Iterator[NewConsumer]:
    with ExitStack() as stack:

        def start(**settings: Any) -> KafkaConsumer:
            consumer = KafkaConsumer(
                bootstrap_servers=broker.bootstrap_servers,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                isolation_level="read_committed",
                session_timeout_ms=SESSION_TIMEOUT_MS,
                **KAFKA_PYTHON_SETTINGS,
                **settings,
            )
            return stack.enter_context(closing(consumer))

        yield start


def read(consumer: KafkaConsumer, count: int, timeout_s: float = 180) -> list[Any]:
    """At least `count` records, in the order in which they came.

    Without a pause between polls: kafka-python forgets a join that completes outside of one.
    """
    records: list[Any] = []
    deadline = time.monotonic() + timeout_s
    while len(records) < count:
        for batch in consumer.poll(1000).values():
            records.extend(batch)
        assert time.monotonic() < deadline, f"{len(records)} of {count} records came"
    return records


def transactional(new_producer: NewProducer, name: str = "worker") -> KafkaProducer:
    producer = new_producer(transactional_id=name, transaction_timeout_ms=10_000)
    producer.init_transactions()
    return producer


def test_topics_have_four_partitions(broker: EmbeddedBroker) -> None:
    topics = AdminClient(
        {"bootstrap.servers": broker.bootstrap_servers, "log_level": 0}
    ).list_topics(timeout=60)
    counts = {name: len(topic.partitions) for name, topic in topics.topics.items()}
    assert counts == {"queries": PARTITIONS, "results": PARTITIONS}


def test_an_admin_client_cannot_create_topics(broker: EmbeddedBroker) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
    created = admin.create_topics([NewTopic("more", 1, 1)], request_timeout=0.5)
    with pytest.raises(KafkaException):
        created["more"].result()


def test_records_come_whole_and_in_order(broker: EmbeddedBroker) -> None:
    sent = [
        Outgoing(f"q-{number}".encode(), b"{}", (("traceparent", b"00"),), partition=1)
        for number in range(20)
    ]
    began_ms = time.time() * 1000
    produce(broker.bootstrap_servers, "queries", sent)
    records = read_topic(broker.bootstrap_servers, "queries")
    assert [Outgoing(one.key, one.value, one.headers, one.partition) for one in records] == sent
    assert [one.offset for one in records] == list(range(20))
    assert all(one.timestamp >= began_ms - 1000 for one in records)


def test_a_worker_runs_unchanged(
    broker: EmbeddedBroker, new_producer: NewProducer, new_consumer: NewConsumer
) -> None:
    produce(broker.bootstrap_servers, "queries", [Outgoing(b"q-1", b"what?")])
    consumer = new_consumer(group_id="workers")
    consumer.subscribe(["queries"])
    (record,) = read(consumer, 1)
    place = TopicPartition(record.topic, record.partition)
    producer = transactional(new_producer)

    producer.begin_transaction()
    producer.send("results", b"that.", record.key, headers=[("ce_id", b"1")]).get(60)
    offsets = {place: OffsetAndMetadata(record.offset + 1)}
    producer.send_offsets_to_transaction(offsets, consumer.group_metadata())
    producer.commit_transaction()

    (result,) = read_topic(broker.bootstrap_servers, "results")
    assert (result.key, result.value) == (b"q-1", b"that.")
    assert result.headers == (("ce_id", b"1"),)
    # The transaction's offsets were dropped; the group's own commit is kept.
    assert consumer.committed(place) is None
    consumer.commit(offsets)
    assert consumer.committed(place) == record.offset + 1


def test_transactions_isolate_nothing(broker: EmbeddedBroker, new_producer: NewProducer) -> None:
    producer = transactional(new_producer)
    producer.begin_transaction()
    producer.send("results", b"open", b"k").get(60)
    assert [one.value for one in read_topic(broker.bootstrap_servers, "results")] == [b"open"]
    producer.abort_transaction()
    assert [one.value for one in read_topic(broker.bootstrap_servers, "results")] == [b"open"]


def test_stale_members_and_producers_are_not_refused(
    new_producer: NewProducer, new_consumer: NewConsumer
) -> None:
    consumer = new_consumer(group_id="workers")
    old, place = transactional(new_producer), TopicPartition("queries", 0)
    transactional(new_producer)  # On a real broker this one fences the other.
    stale = consumer.group_metadata()._replace(generation_id=99, member_id="nobody")
    old.begin_transaction()
    old.send("results", b"v", b"k").get(60)
    old.send_offsets_to_transaction({place: OffsetAndMetadata(1)}, stale)
    old.commit_transaction()


@pytest.mark.parametrize("check_crcs", [True, False])
def test_transactional_records_are_read_without_checksums_only(
    new_producer: NewProducer, new_consumer: NewConsumer, check_crcs: bool
) -> None:
    producer = transactional(new_producer)
    producer.begin_transaction()
    producer.send("results", b"v", b"k", partition=0).get(60)
    producer.commit_transaction()
    consumer = new_consumer(check_crcs=check_crcs)
    consumer.assign([TopicPartition("results", 0)])
    if not check_crcs:
        assert [one.value for one in read(consumer, 1)] == [b"v"]
        return
    with pytest.raises(CorruptRecordError):
        read(consumer, 2)
