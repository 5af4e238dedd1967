"""The real broker, on kafka-python. Which client hazards it handles is said where it does."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from kafka import ConsumerRebalanceListener, TopicPartition
from kafka.errors import CommitFailedError, KafkaError, KafkaTimeoutError
from kafka.structs import MemberState, OffsetAndMetadata

from worker.broker import Lease, Polled
from worker.errors import CommitAbortedError, FatalError, FencedError, TransientError
from worker.records import Headers, Outgoing, Partition, Record
from worker.settings import KafkaSettings
from worker.watchdog import Watchdog

CLOSE_TIMEOUT_S = 5
# After a fatal error there is nothing to say to the broker, and it may not even listen.
BROKEN_CLOSE_TIMEOUT_S = 0.25
# While a join is under way, polls are this long, and one call makes them for so long at most.
JOIN_POLL_S = 1.0
JOIN_LIMIT_S = 5.0


class _Moves(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes that partitions came or went. Called on the client's I/O thread while poll waits."""

    def __init__(self) -> None:
        self.noted = False

    def on_partitions_assigned(self, assigned: object) -> None:  # noqa: ARG002
        """See kafka-python."""
        self.noted = True

    def on_partitions_revoked(self, revoked: object) -> None:  # noqa: ARG002
        """See kafka-python."""
        self.noted = True

    def on_partitions_lost(self, lost: object) -> None:  # noqa: ARG002
        """See kafka-python."""
        self.noted = True

    def take(self) -> bool:
        noted, self.noted = self.noted, False
        return noted


class KafkaBroker:
    """See `worker.broker.Broker`."""

    def __init__(
        self, consumer: Any, producer: Any, settings: KafkaSettings, watchdog: Watchdog
    ) -> None:
        self._consumer = consumer
        self._producer = producer
        self._settings = settings
        self._watchdog = watchdog
        self._moves = _Moves()
        self._paused = False
        self._broken = False
        self._generation = -1
        self._positions: dict[Partition, int] = {}
        # Text that is committed beside an offset; for `worker.replay`.
        self.notes: Mapping[Partition, str] = {}

    def join(self) -> None:
        """Become a member of the group at the next poll."""
        self._consumer.subscribe([self._settings.topics.queries], listener=self._moves)

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        """See `Broker`."""
        try:
            found = self._poll(max_records, timeout_s)
        except KafkaError as error:
            raise _sorted(error, "kafka: reading failed", TransientError) from error
        # The lease is taken with the records and never again: a later one could vouch for
        # partitions that were taken away and given back in between.
        metadata = self._consumer.group_metadata()
        changed = metadata.generation_id != self._generation
        self._generation = metadata.generation_id
        if self._moves.take() or changed:
            self._apply_pause()
            return Polled([], None, moved=True)
        records = [to_record(raw) for batch in found.values() for raw in batch]
        for record in records:
            self._positions[record.partition] = record.offset + 1
        if metadata.generation_id < 0:
            # Without a generation the broker would not fence a commit: it must not happen.
            return Polled([], None, moved=bool(records))
        lease = Lease(metadata.group_id, metadata.generation_id, metadata.member_id)
        return Polled(records, lease, moved=False)

    def pause(self) -> None:
        """See `Broker`."""
        if not self._paused:
            self._paused = True
            self._apply_pause()

    def resume(self) -> None:
        """See `Broker`."""
        if self._paused:
            self._paused = False
            self._consumer.resume(*self._consumer.assignment())

    def commit(
        self, records: Sequence[Outgoing], offsets: Mapping[Partition, int], lease: Lease
    ) -> None:
        """See `Broker`. The watchdog bounds it: the client's own calls wait for ever."""
        limit_ms = self._settings.transaction_timeout_ms + self._settings.watchdog_margin_ms
        try:
            with self._watchdog.limit("commit", limit_ms / 1000):
                self._begin()
                self._send(records)
                self._send_offsets(offsets, lease)
                self._commit()
        except FatalError:
            self._broken = True
            raise

    def rewind(self) -> None:
        """See `Broker`."""
        try:
            for partition in self._consumer.assignment():
                # Waits while a transaction with an offset for this partition is open: the
                # consumer reads committed, so it asks for stable offsets only.
                offset = self._consumer.committed(
                    partition, timeout_ms=self._settings.request_timeout_ms
                )
                self._seek(partition, offset)
        except KafkaError as error:
            raise _sorted(
                error, "kafka: committed offsets can't be read", TransientError
            ) from error

    def assigned(self) -> Sequence[Partition]:
        """See `Broker`."""
        return sorted(Partition(tp.topic, tp.partition) for tp in self._consumer.assignment())

    def lag(self) -> Mapping[Partition, int]:
        """See `Broker`."""
        lags: dict[Partition, int] = {}
        for tp in self._consumer.assignment():
            partition = Partition(tp.topic, tp.partition)
            end, position = self._consumer.highwater(tp), self._positions.get(partition)
            if end is not None and position is not None:
                lags[partition] = max(0, end - position)
        return lags

    def close(self) -> None:
        """See `Broker`."""
        timeout_s = BROKEN_CLOSE_TIMEOUT_S if self._broken else CLOSE_TIMEOUT_S
        with self._watchdog.limit("close", 4 * timeout_s):
            self._consumer.close(autocommit=False, timeout_ms=int(timeout_s * 1000))
            self._producer.close(timeout=timeout_s)

    def _poll(self, max_records: int, timeout_s: float) -> Any:
        """Poll; while a join is under way, again and again.

        The client forgets a join that ends between two polls and starts over, which makes all
        members join again: with short polls and work between them a group might never settle.
        """
        until_s = time.monotonic() + JOIN_LIMIT_S
        found = self._consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=max_records)
        while not found and self._joining() and time.monotonic() < until_s:
            # A join for new metadata is forgotten for good when a poll ends before it: then
            # nothing is read and no heartbeat sent any more, unless it is asked for again.
            self._consumer._coordinator.request_rejoin()
            found = self._consumer.poll(timeout_ms=int(JOIN_POLL_S * 1000), max_records=max_records)
        return found

    def _joining(self) -> bool:
        return bool(self._consumer.group_metadata().state == MemberState.REBALANCING)

    def _begin(self) -> None:
        try:
            self._producer.begin_transaction()
        except KafkaError as error:
            raise FencedError(f"kafka: a transaction can't be begun: {error}") from error

    def _send(self, records: Sequence[Outgoing]) -> None:
        """Send, and wait for every acknowledgement.

        Without the wait, a record that times out is left out of a transaction that commits, and
        an error that comes during the commit can look like success.
        """
        try:
            futures = [
                self._producer.send(
                    record.topic, record.value, key=record.key, headers=list(record.headers)
                )
                for record in records
            ]
            self._producer.flush(timeout=self._settings.delivery_timeout_ms / 1000)
            for future in futures:
                future.get(timeout=self._settings.delivery_timeout_ms / 1000)
        except KafkaError as error:
            self._abort()
            raise _sorted(
                error, "kafka: results could not be written", CommitAbortedError
            ) from error

    def _send_offsets(self, offsets: Mapping[Partition, int], lease: Lease) -> None:
        positions = {
            TopicPartition(partition.topic, partition.number): OffsetAndMetadata(
                offset, self.notes.get(partition, ""), -1
            )
            for partition, offset in offsets.items()
        }
        metadata = self._consumer.group_metadata()._replace(
            group_id=lease.group_id, generation_id=lease.generation, member_id=lease.member
        )
        try:
            self._producer.send_offsets_to_transaction(positions, metadata)
        except CommitFailedError as error:
            self._abort()
            raise CommitAbortedError(f"kafka: the partitions have moved on: {error}") from error
        except KafkaError as error:
            raise FencedError(f"kafka: offsets could not be sent: {error}") from error

    def _commit(self) -> None:
        try:
            self._producer.commit_transaction()
        except KafkaError as error:
            # Whether it was committed is not known: only a new process, which asks the broker
            # for the committed offsets, can go on without loss or repetition.
            raise FencedError(f"kafka: the outcome of a commit is not known: {error}") from error

    def _abort(self) -> None:
        try:
            self._producer.abort_transaction()
        except KafkaError as error:
            raise FencedError(f"kafka: a transaction could not be aborted: {error}") from error

    def _seek(self, partition: Any, offset: int | None) -> None:
        if offset is None:
            self._consumer.seek_to_beginning(partition)
            self._positions.pop(Partition(partition.topic, partition.partition), None)
        else:
            self._consumer.seek(partition, offset)
            self._positions[Partition(partition.topic, partition.partition)] = offset

    def _apply_pause(self) -> None:
        if self._paused:
            self._consumer.pause(*self._consumer.assignment())


def to_record(raw: Any) -> Record:
    """Return a record of the client as one of ours."""
    headers: Headers = tuple((name, value) for name, value in raw.headers)
    return Record(
        Partition(raw.topic, raw.partition), raw.offset, raw.timestamp, raw.key, raw.value, headers
    )


def _sorted(
    error: KafkaError, doing: str, passing: type[TransientError]
) -> TransientError | FatalError:
    """Return what an error means: worth another try after `rewind`, or the end of the process."""
    message = f"{doing}: {type(error).__name__}: {error}"
    if getattr(error, "retriable", False) or isinstance(error, KafkaTimeoutError):
        return passing(message)
    return FatalError(message)
