"""A member of a consumer group on a `MemoryCluster`, with faults on demand."""

import itertools
from collections import deque
from collections.abc import Mapping, Sequence

from tests.fakes.memory_cluster import MemoryCluster
from worker.broker import Lease, Polled
from worker.errors import CommitAbortedError, WorkerError
from worker.records import Outgoing, Partition, Record

_numbers = itertools.count(1)


class MemoryBroker:
    """See `worker.broker.Broker`.

    `poll_errors`, `commit_errors` and `rewind_errors` are raised one by one, each once; `None` in
    them lets one call through. With `fails_at_once` a poll's error comes before its time-out. A
    failed commit has written its records, which then are aborted.
    """

    def __init__(self, cluster: MemoryCluster, group_id: str, topic: str) -> None:
        self._cluster = cluster
        self._group_id = group_id
        self._topic = topic
        self._member = f"member-{next(_numbers)}"
        self._generation = -1
        self._paused = False
        self._positions: dict[Partition, int] = {}
        self._turn = 0
        self.closed = False
        self.polls = 0
        self.fails_at_once = False
        self.poll_errors: deque[WorkerError | None] = deque()
        self.commit_errors: deque[WorkerError | None] = deque()
        self.rewind_errors: deque[WorkerError | None] = deque()
        cluster.rebalance(group_id, topic, join=[self._member])

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        """See `Broker`. Waits for the whole time-out where there is nothing to read."""
        assert not self.closed, "polled after close"
        self.polls += 1
        if self.poll_errors and self.poll_errors[0] is not None and not self.fails_at_once:
            self._cluster.clock.wait(timeout_s)
        _raise_next(self.poll_errors)
        group = self._cluster.group(self._group_id)
        if group.generation != self._generation:
            self._take_over()
            return Polled([], None, moved=True)
        records = [] if self._paused else self._fetch(max_records)
        if not records:
            self._cluster.clock.wait(timeout_s)
        return Polled(records, self._lease(), moved=False)

    def pause(self) -> None:
        """See `Broker`."""
        self._paused = True

    def resume(self) -> None:
        """See `Broker`."""
        self._paused = False

    def commit(
        self, records: Sequence[Outgoing], offsets: Mapping[Partition, int], lease: Lease
    ) -> None:
        """See `Broker`."""
        try:
            _raise_next(self.commit_errors)
            if lease.generation != self._cluster.group(self._group_id).generation:
                raise CommitAbortedError("the partitions have moved on")
        except WorkerError:
            self._cluster.transact(records, offsets, self._group_id, commit=False)
            raise
        self._cluster.transact(records, offsets, self._group_id, commit=True)

    def rewind(self) -> None:
        """See `Broker`."""
        _raise_next(self.rewind_errors)
        committed = self._cluster.group(self._group_id).committed
        self._positions = {one: committed.get(one, 0) for one in self._positions}

    def assigned(self) -> Sequence[Partition]:
        """See `Broker`."""
        return sorted(self._positions)

    def lag(self) -> Mapping[Partition, int]:
        """See `Broker`."""
        return {one: self._cluster.end(one) - at for one, at in self._positions.items()}

    def close(self) -> None:
        """See `Broker`."""
        if not self.closed:
            self.closed = True
            self._cluster.rebalance(self._group_id, self._topic, leave=[self._member])

    def force_rebalance(self) -> None:
        """Begin a new generation: leases that were given before are stale from now on."""
        self._cluster.rebalance(self._group_id, self._topic)

    def _take_over(self) -> None:
        """Learn of the new generation. Partitions that stayed keep their positions."""
        group = self._cluster.group(self._group_id)
        self._generation = group.generation
        self._positions = {
            one: self._positions.get(one, group.committed.get(one, 0))
            for one in group.assignment[self._member]
        }

    def _fetch(self, limit: int) -> list[Record]:
        found: list[Record] = []
        partitions = sorted(self._positions)
        if partitions:
            # Another partition comes first each time, or the last would starve.
            self._turn = (self._turn + 1) % len(partitions)
        for partition in partitions[self._turn :] + partitions[: self._turn]:
            records = self._cluster.fetch(partition, self._positions[partition], limit - len(found))
            if records:
                self._positions[partition] = records[-1].offset + 1
            found.extend(records)
        return found

    def _lease(self) -> Lease:
        return Lease(self._group_id, self._generation, self._member)


def _raise_next(errors: deque[WorkerError | None]) -> None:
    if errors and (error := errors.popleft()) is not None:
        raise error
