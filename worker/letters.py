"""Dead letters as `worker.replay` sees them: read, chosen, restored, and remembered as settled."""

import base64
import binascii
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import ValidationError

from schemas.events import DEAD_LETTER_PREFIX, REPLAYS, DeadLetterHeaders
from worker.publish import replays_of
from worker.records import Outgoing, Record

# What brokers take as the note beside a committed offset by default (offset.metadata.max.bytes).
MAX_NOTE_BYTES = 4096
# A note holds a bit for each offset; without a bound, a small one could unpack to gigabytes.
MAX_NOTE_OFFSETS = 8 * 1024 * 1024


@dataclass(frozen=True)
class Letter:
    """A record of the dead-letter topic and what its headers say of the original."""

    record: Record
    headers: DeadLetterHeaders

    @property
    def key(self) -> str | None:
        """Return the key as text."""
        return None if self.record.key is None else self.record.key.decode(errors="replace")

    @property
    def query_id(self) -> str | None:
        """Return the query's id, where the value is good enough to have one."""
        try:
            found = json.loads(self.record.value or b"")["query_id"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return found if isinstance(found, str) else None

    def restored(self, topic: str | None = None) -> Outgoing:
        """Return the original record, for its own topic or another, with one replay more."""
        headers = tuple(
            pair for pair in self.record.headers if not pair[0].startswith(DEAD_LETTER_PREFIX)
        )
        replays = str(replays_of(self.record) + 1).encode()
        return Outgoing(
            topic or self.headers.topic,
            self.record.key,
            self.record.value,
            (*headers, (REPLAYS, replays)),
        )


def read_letter(record: Record) -> Letter | None:
    """Return a record as a dead letter, or None where its headers do not make it one."""
    try:
        # Of headers with the same name the worker's own come last.
        return Letter(record, DeadLetterHeaders.of(record.headers))
    except (ValidationError, UnicodeDecodeError):
        return None


@dataclass(frozen=True)
class Choice:
    """Which letters are meant. Empty or None: any. Times are Unix milliseconds."""

    topics: frozenset[str]
    error_classes: frozenset[str] = frozenset()
    error_contains: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    partitions: frozenset[int] = frozenset()
    keys: frozenset[str] = frozenset()
    query_ids: frozenset[str] = frozenset()
    max_replays: int | None = None

    def takes(self, letter: Letter) -> bool:
        """Say whether a letter is one of them."""
        headers, at_ms = letter.headers, letter.record.timestamp_ms
        return (
            headers.topic in self.topics
            and _any_or(headers.error_class, self.error_classes)
            and (self.error_contains is None or self.error_contains in headers.error_message)
            and (self.since_ms is None or at_ms >= self.since_ms)
            and (self.until_ms is None or at_ms < self.until_ms)
            and _any_or(headers.partition, self.partitions)
            and _any_or(letter.key, self.keys)
            and self._asks_for(letter)
            and (self.max_replays is None or replays_of(letter.record) < self.max_replays)
        )

    def _asks_for(self, letter: Letter) -> bool:
        if not self.query_ids:
            return True
        return letter.key in self.query_ids or letter.query_id in self.query_ids


@dataclass
class Ledger:
    """Which letters of one partition are settled: all before `first`, and those in `beyond`.

    A replay with a filter leaves letters behind, which another one may want. So the group's offset
    stays at the first that was left, and the note beside it has a bit for each offset after it.
    Kafka commits both in one transaction with the records that were sent.
    """

    first: int
    beyond: set[int] = field(default_factory=set)
    left: set[int] = field(default_factory=set)
    read_to: int = 0

    @classmethod
    def of(cls, offset: int | None, note: str) -> "Ledger":
        """Read a committed offset and its note; raises ValueError."""
        first = 0 if offset is None else offset
        return cls(first, {first + place for place in _unpacked(note)}, read_to=first)

    def is_settled(self, offset: int) -> bool:
        """Say whether a letter was replayed or discarded before."""
        return offset < self.first or offset in self.beyond

    def settle(self, offset: int) -> None:
        """Note that a letter is sent in the next transaction. Called in the order of offsets."""
        self.beyond.add(offset)
        self.read_to = max(self.read_to, offset + 1)

    def leave(self, offset: int) -> None:
        """Note that a letter stays for another time. Called in the order of offsets."""
        self.left.add(offset)
        self.read_to = max(self.read_to, offset + 1)

    def to_commit(self) -> tuple[int, str]:
        """Return the offset to commit, and the note beside it."""
        # What was noted by an earlier run and not reached by this one stays as it is.
        end = max([self.read_to, self.first, *(() if self.left else self._prefix_end())])
        first = min(self.left, default=end)
        return first, _packed(offset - first for offset in self.beyond if offset >= first)

    def _prefix_end(self) -> Iterable[int]:
        """With nothing left, letters right behind what was read that are settled count too."""
        end = self.read_to
        while end in self.beyond:
            end += 1
        return (end,)


def _any_or(value: object, wanted: frozenset[str] | frozenset[int]) -> bool:
    return not wanted or value in wanted


def _packed(places: Iterable[int]) -> str:
    bits = bytearray()
    for place in places:
        bits.extend(bytes(max(0, place // 8 + 1 - len(bits))))
        bits[place // 8] |= 1 << place % 8
    return base64.b64encode(zlib.compress(bits, 9)).decode() if bits else ""


def _unpacked(note: str) -> Iterable[int]:
    if not note:
        return ()
    try:
        unpack = zlib.decompressobj()
        raw = unpack.decompress(base64.b64decode(note, validate=True), MAX_NOTE_OFFSETS // 8)
    except (binascii.Error, zlib.error) as error:
        raise ValueError("the note beside the offset is not one of replay's") from error
    if unpack.unconsumed_tail or not unpack.eof:
        raise ValueError("the note beside the offset is cut or too large")
    return [
        8 * place + bit for place, byte in enumerate(raw) for bit in range(8) if byte >> bit & 1
    ]
