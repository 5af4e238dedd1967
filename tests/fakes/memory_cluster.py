"""Topics, transactions and consumer groups in memory, as far as the worker can tell.

Like Kafka: an aborted transaction's records and each transaction's end marker take up offsets that
no reader of committed data ever sees.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.fakes.clock import FakeClock
from worker.records import Headers, Outgoing, Partition, Record


@dataclass
class _Log:
    """One partition: `None` is a marker or a record of an aborted transaction."""

    entries: list[Record | None] = field(default_factory=list)


@dataclass
class Group:
    """A consumer group: who reads what, in which generation, and how far it has come."""

    generation: int = 0
    members: list[str] = field(default_factory=list)
    assignment: dict[str, list[Partition]] = field(default_factory=dict)
    committed: dict[Partition, int] = field(default_factory=dict)


class MemoryCluster:
    """Holds what outlives its clients. For one thread."""

    def __init__(self, partitions: Mapping[str, int], clock: FakeClock) -> None:
        self.clock = clock
        self._partitions = dict(partitions)
        self._logs = {
            Partition(topic, number): _Log()
            for topic, count in partitions.items()
            for number in range(count)
        }
        self._groups: dict[str, Group] = {}

    def produce(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Headers = (),
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> Record:
        """Append one record outside of any transaction."""
        place = self._place(topic, key) if partition is None else Partition(topic, partition)
        log = self._logs[place]
        now_ms = int(self.clock.now() * 1000) if timestamp_ms is None else timestamp_ms
        record = Record(place, len(log.entries), now_ms, key, value, headers)
        log.entries.append(record)
        return record

    def transact(
        self,
        records: Sequence[Outgoing],
        offsets: Mapping[Partition, int],
        group_id: str,
        *,
        commit: bool,
    ) -> None:
        """Write records and offsets as one: all are visible after a commit, none after an abort."""
        touched: dict[Partition, None] = {}
        for outgoing in records:
            place = self._place(outgoing.topic, outgoing.key)
            if commit:
                self.produce(
                    place.topic,
                    outgoing.value,
                    key=outgoing.key,
                    headers=outgoing.headers,
                    partition=place.number,
                )
            else:
                self._logs[place].entries.append(None)
            touched[place] = None
        for place in touched:
            self._logs[place].entries.append(None)
        if commit:
            self.group(group_id).committed.update(offsets)

    def read(self, topic: str) -> list[Record]:
        """All committed records of a topic, by partition and offset."""
        return [
            record
            for number in range(self._partitions[topic])
            for record in self._logs[Partition(topic, number)].entries
            if record is not None
        ]

    def fetch(self, partition: Partition, offset: int, limit: int) -> list[Record]:
        """Up to `limit` committed records from `offset` on."""
        found: list[Record] = []
        for record in self._logs[partition].entries[offset:]:
            if len(found) == limit:
                break
            if record is not None:
                found.append(record)
        return found

    def end(self, partition: Partition) -> int:
        """The offset of the next record."""
        return len(self._logs[partition].entries)

    def partitions_of(self, topic: str) -> list[Partition]:
        """All partitions of a topic."""
        return [Partition(topic, number) for number in range(self._partitions[topic])]

    def group(self, group_id: str) -> Group:
        """The group of that name, made when it is first asked for."""
        return self._groups.setdefault(group_id, Group())

    def rebalance(
        self, group_id: str, topic: str, *, join: Iterable[str] = (), leave: Iterable[str] = ()
    ) -> None:
        """Begin a new generation and share the partitions out anew."""
        group = self.group(group_id)
        left = set(leave)
        group.members = [*(one for one in group.members if one not in left), *join]
        group.generation += 1
        members, partitions = group.members, self.partitions_of(topic)
        # Turned by one each time, so that partitions do move.
        turn = group.generation % len(members) if members else 0
        order = members[turn:] + members[:turn]
        group.assignment = {
            member: partitions[place :: len(order)] for place, member in enumerate(order)
        }

    def _place(self, topic: str, key: bytes | None) -> Partition:
        number = 0 if key is None else zlib.crc32(key) % self._partitions[topic]
        return Partition(topic, number)
