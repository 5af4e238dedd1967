"""Reads a feedback topic up to its end, partition by partition, with a place to stop and go on.

Partitions are assigned, not shared out: how far they were read is kept with the events, so a
group that takes them away would only be in the way. Offsets are committed to the plan's group all
the same, after the events are on disk, for tools that watch a group's lag.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata, TopicPartition

from training.collect.client import advice, connect
from training.errors import KafkaReadError
from training.plan_data import KafkaPlan

_POLL_MS = 500
_POLL_RECORDS = 1000
_FETCH_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class TopicRecord:
    """A record of the topic. `event_id` is the CloudEvents id, where it has one."""

    partition: int
    offset: int
    time_ms: int
    event_id: str | None
    value: bytes | None


@dataclass(frozen=True)
class TopicReader:
    """A consumer of all partitions of one topic."""

    consumer: Any
    plan: KafkaPlan
    partitions: tuple[TopicPartition, ...]
    lost: int  # records that the topic deleted before they were read

    @classmethod
    def open(
        cls, plan: KafkaPlan, offsets: Mapping[int, int], max_rows: int, max_bytes: int
    ) -> "TopicReader":
        """Connect, and go to `offsets` (partition → next); others begin at the oldest record.

        A batch has at most `max_rows` records, an answer of the broker about `max_bytes`.
        Raises KafkaReadError.
        """
        limits = {
            "max_poll_records": min(max_rows, _POLL_RECORDS),
            "fetch_max_bytes": min(max_bytes, _FETCH_BYTES),
        }
        consumer = connect(plan, limits)
        try:
            numbers = consumer.partitions_for_topic(plan.topic)
            if not numbers:
                raise KafkaReadError(
                    f"topic {plan.topic!r} does not exist on {plan.bootstrap_servers} (or may not "
                    "be described): check collect.kafka.topic"
                )
            partitions = tuple(TopicPartition(plan.topic, number) for number in sorted(numbers))
            consumer.assign(partitions)
            first = consumer.beginning_offsets(partitions)
            lost = 0
            for place in partitions:
                wanted = offsets.get(place.partition, first[place])
                lost += max(0, first[place] - wanted)
                consumer.seek(place, max(wanted, first[place]))
        except KafkaError as error:
            consumer.close(autocommit=False)
            raise KafkaReadError(advice(plan, str(error))) from None
        except KafkaReadError:
            consumer.close(autocommit=False)
            raise
        return cls(consumer, plan, partitions, lost)

    def ends(self) -> dict[int, int]:
        """Return partition → the offset behind the last record that is there now."""
        found = self.consumer.end_offsets(self.partitions)
        return {place.partition: offset for place, offset in found.items()}

    def positions(self) -> dict[int, int]:
        """Return partition → the next offset to read."""
        return {place.partition: self.consumer.position(place) for place in self.partitions}

    def batches(self, stop: Callable[[], bool], *, follow: bool) -> Iterator[list[TopicRecord]]:
        """Give records as they come, until the end that the topic has now, or without end.

        A batch may be empty: then nothing came for a while. Raises KafkaReadError.
        """
        try:
            ends = self.ends()
            heard = time.monotonic()
            while not stop() and (follow or self._is_before(ends)):
                batch = self._poll()
                if batch or follow:
                    heard = time.monotonic()
                elif time.monotonic() - heard > self.plan.timeout_s:
                    raise KafkaReadError(
                        f"{self.plan.bootstrap_servers} has sent nothing for "
                        f"{self.plan.timeout_s:g} s, short of the end of {self.plan.topic!r}: "
                        "check the brokers and run collect again; it goes on from here"
                    )
                yield batch
        except KafkaError as error:
            raise KafkaReadError(advice(self.plan, str(error))) from None

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell the group how far the events are on disk; raises KafkaReadError."""
        places = {
            TopicPartition(self.plan.topic, number): OffsetAndMetadata(offset, "", -1)
            for number, offset in offsets.items()
        }
        try:
            self.consumer.commit(places)
        except KafkaError as error:
            raise KafkaReadError(
                f"offsets can't be committed to group {self.plan.group_id!r} ({error}): check, "
                "with ACLs, that the user may Read it; the events themselves are kept"
            ) from None

    def close(self) -> None:
        """Leave the broker."""
        self.consumer.close(autocommit=False)

    def _is_before(self, ends: Mapping[int, int]) -> bool:
        positions = self.positions()
        return any(positions[number] < end for number, end in ends.items())

    def _poll(self) -> list[TopicRecord]:
        polled = self.consumer.poll(timeout_ms=_POLL_MS)
        return [_record(one) for records in polled.values() for one in records]


def _record(record: Any) -> TopicRecord:
    found = next((value for name, value in record.headers if name == "ce_id" and value), None)
    event_id = None if found is None else found.decode("utf-8", "replace")
    return TopicRecord(record.partition, record.offset, record.timestamp, event_id, record.value)
