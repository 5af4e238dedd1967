"""Records to batches: decoded at once, then cut by events and pairs, in the order they came."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from worker.admission import pairs_of
from worker.broker import Lease
from worker.decode import Query, decode
from worker.errors import BadRecordError
from worker.records import Record
from worker.settings import BatchSettings, LimitSettings

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class BadRecord:
    """A record that could not be decoded."""

    record: Record
    error: BadRecordError


Item = Query | BadRecord


@dataclass(frozen=True)
class Batch:
    """Items that are answered in one transaction, with the lease under which they were read."""

    items: Sequence[Item]
    lease: Lease

    @property
    def queries(self) -> list[Query]:
        """Return the items that could be decoded."""
        return [item for item in self.items if isinstance(item, Query)]

    @property
    def records(self) -> list[Record]:
        """Return the record of every item, in order."""
        return [item.record for item in self.items]


class Intake:
    """Holds what was read and is in no batch yet. Bounded: see `wants_more`."""

    def __init__(self, batch: BatchSettings, limits: LimitSettings) -> None:
        self._batch = batch
        self._limits = limits
        self._waiting: deque[Item] = deque()
        self._lease: Lease | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def wants_more(self) -> bool:
        """Whether another poll may bring `max_events` records."""
        return len(self._waiting) < self._batch.max_events

    def add(self, records: Sequence[Record], lease: Lease | None) -> None:
        """Decode records and let them wait."""
        if lease is not None:
            self._lease = lease
        self._waiting.extend(self._decoded(record) for record in records)

    def cut(self) -> Batch | None:
        """Return the next batch: the longest run within the bounds, at least one item."""
        if not self._waiting or self._lease is None:
            return None
        items: list[Item] = []
        pairs = 0
        while self._waiting and len(items) < self._batch.max_events:
            item = self._waiting[0]
            more = pairs_of(item) if isinstance(item, Query) else 0
            if items and pairs + more > self._batch.max_pairs:
                break
            items.append(self._waiting.popleft())
            pairs += more
        return Batch(items, self._lease)

    def clear(self) -> None:
        """Forget everything: it will be read again."""
        self._waiting.clear()
        self._lease = None

    def _decoded(self, record: Record) -> Item:
        try:
            return decode(record, self._limits)
        except BadRecordError as error:
            return BadRecord(record, error)
        except Exception as error:
            # Nobody knows bytes that do this; if there are any, they must fail alone.
            log.exception("a record could not be decoded", offset=record.offset)
            return BadRecord(record, BadRecordError(f"undecodable: {type(error).__name__}"))
