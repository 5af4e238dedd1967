"""The boundary to the broker: records in, and a transaction out that also commits the input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from worker.records import Outgoing, Partition, Record


@dataclass(frozen=True)
class Lease:
    """Proof of ownership: member and generation under which records were read (KIP-447).

    A commit carries the lease of its records, so that the broker can refuse it when the partitions
    have moved on in between. It is never renewed.
    """

    group_id: str
    generation: int
    member: str


@dataclass(frozen=True)
class Polled:
    """What a poll gave. After `moved`, nothing that was read before it can be committed."""

    records: Sequence[Record]
    lease: Lease | None
    moved: bool


class Broker(Protocol):
    """A member of a consumer group with a transactional producer. For one thread only."""

    def poll(self, max_records: int, timeout_s: float) -> Polled:
        """Return the next records of each partition in order; also keeps the membership alive.

        Raises TransientError or FatalError.
        """

    def pause(self) -> None:
        """Let polls return no records until `resume`; they still keep the membership alive."""

    def resume(self) -> None:
        """End a pause."""

    def commit(
        self, records: Sequence[Outgoing], offsets: Mapping[Partition, int], lease: Lease
    ) -> None:
        """Write all records and offsets, or none of them.

        Raises CommitAbortedError when nothing was written and the client can go on after
        `rewind`, FatalError otherwise.
        """

    def rewind(self) -> None:
        """Set every assigned partition to its committed offset; raises TransientError."""

    def assigned(self) -> Sequence[Partition]:
        """Return the partitions that are read now."""

    def lag(self) -> Mapping[Partition, int]:
        """Return how many records wait behind the position of each assigned partition."""

    def close(self) -> None:
        """Leave the group, so that the partitions move on at once."""
