"""What every input must hold to, whatever it is."""

import json
from collections.abc import Callable

from kafka.record.default_records import DefaultRecordBatchBuilder

from schemas.events import DEAD_LETTER_PREFIX
from tests.fakes.clock import FakeClock
from worker.caches import _decode_ranking, _decode_score
from worker.decode import decode
from worker.errors import BadRecordError
from worker.kafka_records import LenientBatch
from worker.letters import Ledger, read_letter
from worker.publish import MAX_MESSAGE_BYTES, Publisher
from worker.records import Partition, Record
from worker.settings import LimitSettings, TopicSettings

TOPICS = TopicSettings()
LIMITS = LimitSettings(event_bytes=64 * 1024, text_chars=1000)
PUBLISHER = Publisher(TOPICS, "fuzzed", "inline", FakeClock(), {})
_QUERIES = Partition(TOPICS.queries, 0)


def a_query_or_a_dead_letter(raw: bytes) -> None:
    """A record's value is a query within the limits, or a dead letter that can be replayed."""
    record = Record(_QUERIES, 0, 0, raw[:16], raw)
    try:
        event = decode(record, LIMITS).event
    except BadRecordError as error:
        letter = PUBLISHER.dead_letter(record, error)
        message = dict(letter.headers)["dlq.error.message"] or b""
        assert len(message) <= MAX_MESSAGE_BYTES
        assert b"\n" not in message
        read = read_letter(
            Record(Partition(letter.topic, 0), 0, 0, letter.key, raw, letter.headers)
        )
        assert read is not None
        assert read.restored().value == raw
        assert read.query_id is None or isinstance(read.query_id, str)
        return
    assert event.query_id
    assert event.query.strip()
    assert 1 <= event.top_k <= 200
    assert event.candidates is None or len(event.candidates) <= 1000
    assert json.loads(event.model_dump_json())["query_id"] == event.query_id


def headers_are_a_letter_or_none(raw: bytes) -> None:
    """Headers of the dead-letter topic, which anybody with the right to write may have made."""
    names = ("topic", "partition", "offset", "timestamp", "error.class", "error.message", "worker")
    parts = raw.split(b"\x00", len(names) + 1)
    headers = tuple(
        (DEAD_LETTER_PREFIX + name, part)
        for name, part in zip((*names, "replays"), parts, strict=False)
    )
    letter = read_letter(Record(_QUERIES, 0, 0, None, raw, headers))
    if letter is not None:
        again = dict(letter.restored().headers)["dlq.replays"] or b""
        assert 0 < int(again) <= 10**9


def a_cached_value_is_good_or_a_miss(raw: bytes) -> None:
    """What Redis gives back, which others may have written."""
    score = _decode_score(raw)
    assert score is None or abs(score.logit) < float("inf")
    ranking = _decode_ranking(raw)
    if ranking is not None:
        assert all(abs(score.logit) < float("inf") for score in ranking.scores)


def a_note_is_good_or_refused(raw: bytes) -> None:
    """What stands beside a committed offset."""
    try:
        ledger = Ledger.of(7, raw.decode("latin-1"))
    except ValueError:
        return
    assert ledger.to_commit()[0] >= 7


class _RawName(str):
    """A header's name that is written as the bytes that stand for it in latin-1."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return str(self).encode("latin-1")


def any_header_name_is_read(raw: bytes) -> None:
    """Names of headers, which Kafka does not check: between records that are as they should be."""
    names = raw.split(b"\x00", 3)
    headers = [(_RawName(name.decode("latin-1")), name) for name in names]
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1_000_000)
    for offset, given in enumerate(([], headers, [("é", b"2")])):
        builder.append(offset, 0, b"key", raw, given)
    before, found, after = list(LenientBatch(bytes(builder.build())))
    assert (before.key, before.value, before.headers) == (b"key", raw, [])
    assert (after.key, after.value, after.headers) == (b"key", raw, [("é", b"2")])
    assert (found.key, found.value) == (b"key", raw)
    expected = [(name.decode(errors="backslashreplace"), name) for name in names]
    assert found.headers == expected
    for name, _ in found.headers:
        assert type(name) is str
        name.encode()


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        a_query_or_a_dead_letter,
        headers_are_a_letter_or_none,
        a_cached_value_is_good_or_a_miss,
        a_note_is_good_or_refused,
        any_header_name_is_read,
    )
}

SEEDS = [
    b'{"query_id": "q", "query": "a", "top_k": 5, "top_n": 3, "deadline_ms": 9, "tenant": null}',
    b'{"query_id": "q", "query": "a", "candidates": [{"doc_id": "d", "text": "t", "score": 1e3}]}',
    b'{"query_id": "\\ud83d\\ude00", "query": "\\u0000", "attributes": {"k": "v"}, "x": [[{}]]}',
    b"[[[[[[[[[[", b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00", b'"\\ud800"', b"NaN", b"1e999",
    b"t\x000\x001\x002\x00c\x00m\x00w\x003",
    b"name\xff\x00\xe9\x00\xf0\x9f\x00ok",
    b"s\x00\x00\x80?\x01", b'[["d", 0.5, 1.5, true]]', b"eJxjYAAAAAEAAQ==",
]  # fmt: skip
