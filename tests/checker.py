"""An independent witness of what is on the topics.

It uses librdkafka, not the worker's client: a mistake of the one is not hidden by the other.
"""

import json
import time
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

# Until then nothing is wrong but the time that a busy machine takes.
_TIMEOUT_S = 180.0
_REQUEST_TIMEOUT_S = 60.0
_SHOWN = 10
_COORDINATOR_COMES = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}
_LEADER_COMES = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}
_POLL_S = 0.05
Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True)
class Record:
    """A record as it lies on a topic. `timestamp` is in milliseconds."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp: int = 0

    @property
    def query_id(self) -> str:
        """The key as text: topics of this system are keyed by the query's id."""
        assert self.key is not None, f"{self.topic}[{self.partition}]@{self.offset} has no key"
        return self.key.decode("utf-8")

    @property
    def header(self) -> dict[str, bytes | None]:
        """Headers by name; of several with the same name the last."""
        return dict(self.headers)

    def json(self) -> Any:
        """The value, parsed."""
        assert self.value is not None, f"{self.topic}[{self.partition}]@{self.offset} is empty"
        return json.loads(self.value)


@dataclass(frozen=True)
class Outgoing:
    """A record to be produced. Without `partition` the key decides."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


def read_topic(bootstrap: str, topic: str, *, timeout_s: float = _TIMEOUT_S) -> list[Record]:
    """All committed records of a topic up to its end offsets at the time of the call.

    Sorted by partition and offset. Where a transaction is open, the end is its beginning.

    Raises:
        AssertionError: a partition could not be read to its end within `timeout_s`.
    """
    with _consumer(bootstrap) as consumer:
        ends = _assign_all(consumer, topic)
        unread = {partition for partition, end in ends.items() if end > 0}
        records: list[Record] = []
        for message in _messages(consumer, time.monotonic() + timeout_s):
            partition, end = message.partition(), ends[message.partition() or 0]
            at_end = message.error() is not None
            if not at_end and _offset(message) < end:
                records.append(_record(message))
            if at_end or _offset(message) >= end - 1:
                unread.discard(partition or 0)
            if not unread:
                break
        assert not unread, f"{topic}: partitions {sorted(unread)} not read within {timeout_s} s"
    return sorted(records, key=lambda record: (record.partition, record.offset))


def wait_for_count(
    bootstrap: str, topic: str, count: int, timeout_s: float = _TIMEOUT_S
) -> list[Record]:
    """Returns once at least `count` committed records are on the topic: those seen by then.

    Raises:
        AssertionError: with the number that did come.
    """
    records: list[Record] = []
    with _consumer(bootstrap) as consumer:
        _assign_all(consumer, topic)
        if count <= 0:
            return records
        for message in _messages(consumer, time.monotonic() + timeout_s):
            if message.error() is None:
                records.append(_record(message))
            if len(records) >= count:
                return records
    raise AssertionError(f"{topic}: {len(records)} of {count} records came within {timeout_s} s")


def end_offsets(bootstrap: str, topic: str) -> dict[int, int]:
    """Each partition's end: the offset after the last committed record or marker."""
    with _consumer(bootstrap) as consumer:
        return _assign_all(consumer, topic)


def committed_offsets(
    bootstrap: str, group: str, topic: str, *, timeout_s: float = _TIMEOUT_S
) -> dict[int, int]:
    """The group's committed offset of each partition that has one.

    Asks for stable offsets, and asks again while a transaction that moves them is open.

    Raises:
        AssertionError: a transaction stayed open for `timeout_s`.
    """
    # Not by the admin client: librdkafka 2.16's crashes where the coordinator is on its way up.
    deadline = time.monotonic() + timeout_s
    with _consumer(bootstrap, group) as consumer:
        partitions = [TopicPartition(topic, number) for number in _partitions(consumer, topic)]
        while True:
            try:
                left = max(1.0, deadline - time.monotonic())
                answers = consumer.committed(partitions, timeout=left)
                break
            except KafkaException as error:
                said = f"{group}: offsets of {topic} can't be read or stay unstable: {error}"
                on_its_way = error.args[0].code() in _COORDINATOR_COMES
                assert on_its_way and time.monotonic() < deadline, said  # noqa: PT018
            time.sleep(0.05)
    errors = [one.error for one in answers if one.error is not None]
    if errors:
        raise KafkaException(errors[0])
    return {one.partition: one.offset for one in answers if one.offset >= 0}


def produce(
    bootstrap: str, topic: str, records: Iterable[Outgoing], *, timeout_s: float = _TIMEOUT_S
) -> list[Record]:
    """Produces records in order and waits for each one's delivery.

    Returns:
        The records as they lie on the topic, in the order in which they were given.
    """
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "log_level": 0,
            "enable.idempotence": True,
            "linger.ms": 2,
            "delivery.timeout.ms": int(timeout_s * 1000),
        }
    )
    delivered: list[Record | None] = []
    failures: list[str] = []

    def on_delivery(index: int, sent: Outgoing) -> Any:
        def report(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failures.append(str(error))
            else:  # A report comes without the headers.
                delivered[index] = replace(_record(message), headers=sent.headers)

        return report

    for index, record in enumerate(records):
        delivered.append(None)
        _enqueue(producer, topic, record, on_delivery(index, record))
    left = producer.flush(timeout_s)
    assert not failures, f"{topic}: {len(failures)} not delivered, the first for: {failures[0]}"
    assert not left, f"{topic}: {left} records not delivered within {timeout_s} s"
    return [record for record in delivered if record is not None]


def _enqueue(producer: Producer, topic: str, record: Outgoing, on_delivery: Any) -> None:
    placed = {} if record.partition is None else {"partition": record.partition}
    while True:
        try:
            producer.produce(
                topic,
                value=record.value,
                key=record.key,
                headers=list(record.headers),
                on_delivery=on_delivery,
                **placed,
            )
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return


def assert_exactly_once(query_ids: Iterable[str], results: Sequence[Record]) -> None:
    """Each query id has exactly as many results as it was asked, and there are no others.

    Results are told apart by their key, and the value must name the same query.
    """
    asked = Counter(query_ids)
    answered = Counter(record.query_id for record in results)
    for record in results:
        named = record.json()["query_id"]
        assert named == record.query_id, f"key {record.query_id!r} over a value of {named!r}"
    lost, surplus = asked - answered, answered - asked
    unknown = sorted(query_id for query_id in surplus if query_id not in asked)
    repeated = sorted(query_id for query_id in surplus if query_id in asked)
    problems = {
        "lost": sorted(lost),
        "more than once": [f"{one} at {_places(results, one)}" for one in repeated],
        "never asked": unknown,
    }
    said = [
        f"{len(found)} {name}: {', '.join(found[:_SHOWN])}"
        for name, found in problems.items()
        if found
    ]
    assert not said, f"{asked.total()} asked, {len(results)} answered; " + "; ".join(said)


def assert_partition_order(queries: Iterable[Record], results: Iterable[Record]) -> None:
    """The results of each input partition's queries come in the queries' order.

    Order is defined within a partition of the results only: what lies on different partitions
    there is not compared.
    """
    asked: dict[str, deque[Record]] = defaultdict(deque)
    for query in sorted(queries, key=lambda record: (record.partition, record.offset)):
        asked[query.query_id].append(query)
    last: dict[tuple[int, int], Record] = {}
    for result in sorted(results, key=lambda record: (record.partition, record.offset)):
        assert asked[result.query_id], f"{result.query_id} has more results than queries"
        query = asked[result.query_id].popleft()
        way = (query.partition, result.partition)
        before = last.get(way)
        assert before is None or before.offset < query.offset, (
            f"result {result.partition}@{result.offset} answers query {query.partition}"
            f"@{query.offset} ({query.query_id}) after that of @{before.offset} ({before.query_id})"
        )
        last[way] = query


def _places(results: Iterable[Record], query_id: str) -> str:
    return " ".join(f"{one.partition}@{one.offset}" for one in results if one.query_id == query_id)


@contextmanager
def _consumer(bootstrap: str, group: str | None = None) -> Iterator[Consumer]:
    """A consumer that joins no group, also not the one that it names."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group or f"checker-{uuid.uuid4().hex}",
            "log_level": 0,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 50,
        }
    )
    try:
        yield consumer
    finally:
        consumer.close()


def _partitions(client: Consumer, topic: str) -> list[int]:
    found = client.list_topics(topic, timeout=_REQUEST_TIMEOUT_S).topics[topic]
    assert found.error is None, f"{topic}: {found.error}"
    return sorted(found.partitions)


def _assign_all(consumer: Consumer, topic: str) -> dict[int, int]:
    """Assigns all partitions from their beginning, and returns their ends of this moment."""
    ends = {}
    for partition in _partitions(consumer, topic):
        ends[partition] = _end(consumer, TopicPartition(topic, partition))
    consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
    return ends


def _end(consumer: Consumer, place: TopicPartition) -> int:
    """The end of a partition, once it has a leader: after a restart it has none for a moment."""
    deadline = time.monotonic() + _REQUEST_TIMEOUT_S
    while True:
        try:
            return int(consumer.get_watermark_offsets(place, timeout=_REQUEST_TIMEOUT_S)[1])
        except KafkaException as error:
            if error.args[0].code() not in _LEADER_COMES or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)


def _messages(consumer: Consumer, deadline: float) -> Iterator[Message]:
    """Records, and the ends of partitions as messages with an error, until the deadline."""
    while (left := deadline - time.monotonic()) > 0:
        for message in consumer.consume(500, timeout=min(left, 0.2)):
            error = message.error()
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                yield message
            elif not error.retriable() and error.code() != KafkaError._ALL_BROKERS_DOWN:
                raise KafkaException(error)


def _offset(message: Message) -> int:
    offset = message.offset()
    return -1 if offset is None else int(offset)


def _record(message: Message) -> Record:
    return Record(
        topic=str(message.topic()),
        partition=int(message.partition() or 0),
        offset=_offset(message),
        key=message.key(),
        value=message.value(),
        headers=tuple(message.headers() or ()),
        timestamp=int(message.timestamp()[1]),
    )
