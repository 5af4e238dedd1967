"""Where a broker's contract is tested: in memory, and on a real Kafka."""

import re
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from kafka import KafkaProducer

from tests import checker
from tests.fakes.memory_broker import MemoryBroker
from tests.fakes.memory_cluster import MemoryCluster
from tests.fakes.worker import GROUP, TOPICS, new_cluster
from tests.services.kafka import KafkaCluster
from tests.services.topics import create_topics
from worker.broker import Broker, Lease
from worker.kafka_broker import KafkaBroker
from worker.kafka_client import make_consumer, make_producer
from worker.records import Headers, Outgoing, Partition, Record
from worker.settings import KafkaSettings, TopicSettings
from worker.watchdog import Watchdog

FETCH_BYTES = 1024 * 1024
SETTLE_S = 240.0
POLL_S = 0.05
Seen = tuple[bytes | None, bytes | None, Headers]


class Site(Protocol):
    """A cluster with the four topics, seen from outside, and its members."""

    topics: TopicSettings

    def produce(self, partition: int, record: Outgoing) -> None:
        """Put a record on the topic of queries, by another client than the worker's."""

    def produce_raw_header_names(self, record: Outgoing, times: int) -> None:
        r"""Put records in one batch, with each `\xNN` of their headers' names as that byte."""

    def join(self) -> Broker:
        """Return a new member of the group; all members know their partitions then."""

    def leave(self, member: Broker) -> None:
        """Close a member and know it no longer."""

    def read(self, topic: str, count: int = 0) -> list[Seen]:
        """Return key, value and headers of all committed records, by partition and offset.

        Waits until there are `count`: Kafka shows a commit to readers a moment after it is done.
        """

    def committed(self) -> dict[int, int]:
        """Return the committed offsets of the topic of queries."""

    def close(self) -> None:
        """End all members."""


class MemorySite:
    """The fake."""

    def __init__(self, partitions: int) -> None:
        self.topics = TOPICS
        self._cluster: MemoryCluster = new_cluster(partitions)
        self._members: list[MemoryBroker] = []

    def produce(self, partition: int, record: Outgoing) -> None:
        """See `Site`."""
        self._cluster.produce(
            record.topic,
            record.value,
            key=record.key,
            headers=record.headers,
            partition=partition,
        )

    def produce_raw_header_names(self, record: Outgoing, times: int) -> None:
        """See `Site`."""
        for _ in range(times):
            self.produce(0, record)

    def join(self) -> Broker:
        """See `Site`."""
        member = MemoryBroker(self._cluster, GROUP, TOPICS.queries)
        self._members.append(member)
        settle(self._members, len(self._cluster.partitions_of(TOPICS.queries)))
        return member

    def leave(self, member: Broker) -> None:
        """See `Site`."""
        member.close()
        self._members = [one for one in self._members if one is not member]

    def read(self, topic: str, count: int = 0) -> list[Seen]:
        """See `Site`."""
        return [(one.key, one.value, one.headers) for one in self._cluster.read(topic)]

    def committed(self) -> dict[int, int]:
        """See `Site`."""
        group = self._cluster.group(GROUP)
        return {partition.number: offset for partition, offset in group.committed.items()}

    def close(self) -> None:
        """See `Site`."""
        for member in self._members:
            member.close()


class KafkaSite:
    """The real thing, looked at through librdkafka."""

    def __init__(self, cluster: KafkaCluster, partitions: int) -> None:
        names = create_topics(cluster, queries=partitions)
        self._bootstrap = cluster.bootstrap_servers
        self._partitions = partitions
        self.topics = TopicSettings(
            queries=names.queries,
            results=names.results,
            feedback=names.feedback,
            dead_letters=names.dead_letters,
        )
        self._settings = KafkaSettings(
            bootstrap_servers=self._bootstrap, group_id=names.group_id, topics=self.topics
        )
        self._watchdog = Watchdog()
        self._members: list[KafkaBroker] = []

    def produce(self, partition: int, record: Outgoing) -> None:
        """See `Site`."""
        outgoing = checker.Outgoing(record.key, record.value, record.headers, partition)
        checker.produce(self._bootstrap, record.topic, [outgoing])

    def produce_raw_header_names(self, record: Outgoing, times: int) -> None:
        """See `Site`."""
        producer = KafkaProducer(bootstrap_servers=self._bootstrap, linger_ms=100)
        headers = [(_RawName(name), value or b"") for name, value in record.headers]
        for _ in range(times):
            producer.send(record.topic, record.value, key=record.key, headers=headers, partition=0)
        producer.flush()
        producer.close()

    def join(self) -> Broker:
        """See `Site`."""
        consumer = make_consumer(self._settings, FETCH_BYTES)
        producer = make_producer(self._settings)
        member = KafkaBroker(consumer, producer, self._settings, self._watchdog)
        member.join()
        self._members.append(member)
        settle(self._members, self._partitions)
        return member

    def leave(self, member: Broker) -> None:
        """See `Site`."""
        member.close()
        self._members = [one for one in self._members if one is not member]

    def read(self, topic: str, count: int = 0) -> list[Seen]:
        """See `Site`."""
        checker.wait_for_count(self._bootstrap, topic, count)
        found = checker.read_topic(self._bootstrap, topic)
        return [(one.key, one.value, one.headers) for one in found]

    def committed(self) -> dict[int, int]:
        """See `Site`."""
        return checker.committed_offsets(
            self._bootstrap, self._settings.group_id, self.topics.queries
        )

    def close(self) -> None:
        """See `Site`."""
        for member in self._members:
            member.close()


class _RawName(str):
    """A header's name that the client writes as bytes of its own."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        escaped = rb"\\x([0-9a-f]{2})"
        return re.sub(escaped, lambda found: bytes.fromhex(found[1].decode()), str(self).encode())


def settle(members: Sequence[Broker], partitions: int) -> None:
    """Poll all members, each on a thread of its own, until each partition has one owner.

    Then set them to the committed offsets, as a worker does after each move.
    """
    deadline_s = time.monotonic() + SETTLE_S
    for member in members:
        member.pause()
    while True:
        moved = _poll_all(members)
        owned = [partition for member in members for partition in member.assigned()]
        fair = all(len(member.assigned()) >= partitions // len(members) for member in members)
        if fair and not moved and len(owned) == len(set(owned)) == partitions:
            break
        assert time.monotonic() < deadline_s, f"the group does not settle: {owned}"
    for member in members:
        member.rewind()
        member.resume()


def _poll_all(members: Sequence[Broker]) -> bool:
    """Poll each member for a moment; return whether any saw partitions move."""
    moves: list[bool] = []
    threads = [
        threading.Thread(target=lambda member=member: moves.append(member.poll(1, POLL_S).moved))
        for member in members
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(moves) == len(members), "a poll failed"
    return any(moves)


def poll_records(member: Broker, count: int) -> tuple[list[Record], Lease]:
    """Poll until so many records came, and return them with the lease of the last poll."""
    deadline_s = time.monotonic() + SETTLE_S
    records: list[Record] = []
    lease = None
    while len(records) < count:
        polled = member.poll(count - len(records), POLL_S)
        assert not polled.moved
        records.extend(polled.records)
        lease = polled.lease or lease
        assert time.monotonic() < deadline_s, f"{len(records)} of {count} records came"
    assert lease is not None
    return records, lease


def partition(site: Site, number: int) -> Partition:
    """A partition of the topic of queries."""
    return Partition(site.topics.queries, number)
