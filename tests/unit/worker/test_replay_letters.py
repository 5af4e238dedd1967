"""Dead letters: which are meant, how they go back, and how what is settled is remembered."""

import base64
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import FakeClock
from tests.fakes.events import event_json, record_of
from worker.errors import BadRecordError
from worker.letters import MAX_NOTE_BYTES, Choice, Ledger, Letter, read_letter
from worker.publish import Publisher
from worker.records import Headers, Outgoing, Partition, Record
from worker.settings import TopicSettings

TOPICS = TopicSettings()
LETTERS = Partition(TOPICS.dead_letters, 0)
PUBLISHER = Publisher(TOPICS, "worker", "inline", FakeClock(), {})


def died(record: Record, error: str = "it is bad", offset: int = 0) -> Letter:
    """The letter that the worker makes of a record."""
    outgoing = PUBLISHER.dead_letter(record, BadRecordError(error))
    return as_letter(outgoing, offset)


def as_letter(outgoing: Outgoing, offset: int = 0) -> Letter:
    record = Record(LETTERS, offset, 5_000 + offset, outgoing.key, outgoing.value, outgoing.headers)
    letter = read_letter(record)
    assert letter is not None
    return letter


def back(outgoing: Outgoing) -> Record:
    return record_of(outgoing.value, key=outgoing.key, headers=outgoing.headers)


headers = st.lists(
    st.tuples(
        st.text(max_size=8).filter(lambda name: not name.startswith("dlq.")),
        st.none() | st.binary(max_size=8),
    ),
    max_size=4,
).map(tuple)


@given(st.none() | st.binary(), st.none() | st.binary(), headers)
def test_a_record_comes_back_byte_for_byte(
    key: bytes | None, value: bytes | None, headers: Headers
) -> None:
    restored = died(record_of(value, key=key, headers=headers)).restored()
    assert (restored.topic, restored.key, restored.value) == (TOPICS.queries, key, value)
    assert restored.headers == (*headers, ("dlq.replays", b"1"))


def test_replays_are_counted_through_every_round() -> None:
    record = record_of(b"{}", headers=(("mine", b"1"),))
    for replays in range(1, 4):
        restored = died(record).restored()
        assert restored.headers == (("mine", b"1"), ("dlq.replays", str(replays).encode()))
        record = back(restored)


@pytest.mark.parametrize("forged", [b"", b"-1", b"1.5", b"9" * 10, b"x", "²".encode(), None])
def test_a_forged_count_counts_as_none(forged: bytes | None) -> None:
    letter = died(record_of(b"{}", headers=(("dlq.replays", forged),)))
    assert letter.headers.replays is None
    assert letter.restored().headers == (("dlq.replays", b"1"),)


def test_forged_headers_do_not_send_a_letter_elsewhere() -> None:
    letter = died(record_of(b"{}", headers=(("dlq.topic", b"somebody.elses"),)))
    assert letter.restored().topic == TOPICS.queries


@pytest.mark.parametrize(
    "headers",
    [(), (("dlq.topic", b"t"),), (("dlq.topic", b"\xff"),), (("dlq.offset", b"one"),)],
)
def test_a_record_without_the_headers_is_no_letter(headers: Headers) -> None:
    assert read_letter(record_of(b"{}", headers=headers)) is None


def choice(**chosen: Any) -> Choice:
    return Choice(topics=frozenset({TOPICS.queries}), **chosen)


@pytest.mark.parametrize(
    ("chosen", "taken"),
    [
        ({}, True),
        ({"error_classes": frozenset({"BadRecordError"})}, True),
        ({"error_classes": frozenset({"Other"})}, False),
        ({"error_contains": "is bad"}, True),
        ({"error_contains": "is good"}, False),
        ({"since_ms": 5_003}, True),
        ({"since_ms": 5_004}, False),
        ({"until_ms": 5_003}, False),
        ({"until_ms": 5_004}, True),
        ({"partitions": frozenset({0, 7})}, True),
        ({"partitions": frozenset({7})}, False),
        ({"keys": frozenset({"key"})}, True),
        ({"keys": frozenset({"q-1"})}, False),
        ({"query_ids": frozenset({"q-1"})}, True),
        ({"query_ids": frozenset({"key"})}, True),
        ({"query_ids": frozenset({"q-2"})}, False),
        ({"max_replays": 1}, True),
    ],
)
def test_each_filter(chosen: dict[str, Any], taken: bool) -> None:
    assert choice(**chosen).takes(died(record_of(event_json("q-1")), offset=3)) is taken


def test_letters_of_other_topics_and_replayed_ones() -> None:
    assert not Choice(topics=frozenset({"other"})).takes(died(record_of(b"")))
    again = died(back(died(record_of(b"")).restored()))
    assert not choice(max_replays=1).takes(again)
    assert choice(max_replays=2).takes(again)


@pytest.mark.parametrize("value", [None, b"", b"[]", b"\xff", b'{"query_id": 1}', b"[" * 9_999])
def test_a_value_without_a_query_id(value: bytes | None) -> None:
    assert died(record_of(value)).query_id is None


# Offsets of letters: transaction markers take up some in between.
offsets = st.lists(st.integers(0, 60), unique=True, max_size=30).map(sorted)


@given(offsets, st.lists(st.tuples(st.sets(st.integers(0, 60)), st.integers(1, 40)), max_size=6))
def test_whatever_the_filters_each_letter_is_settled_once(
    places: list[int], runs: list[tuple[set[int], int]]
) -> None:
    """Runs with any filter and any limit, each from what the one before has committed."""
    offset, note, settled = None, "", set[int]()
    for wanted, limit in runs:
        ledger = Ledger.of(offset, note)
        sent = 0
        for place in places:
            if place < (offset or 0) or ledger.is_settled(place):
                assert place in settled
                continue
            assert place not in settled
            if place not in wanted:
                ledger.leave(place)
                continue
            ledger.settle(place)
            settled.add(place)
            offset_note = ledger.to_commit()
            sent += 1
            if sent == limit:
                break
        if sent:
            offset, note = offset_note
    final = Ledger.of(offset, note)
    assert {place for place in places if final.is_settled(place)} == settled
    assert all(place >= final.first for place in places if place not in settled)


def test_a_note_of_every_other_letter_stays_small() -> None:
    ledger = Ledger.of(1_000_000, "")
    for place in range(1_000_000, 1_020_000):
        (ledger.settle if place % 2 else ledger.leave)(place)
    offset, note = ledger.to_commit()
    assert offset == 1_000_000
    assert len(note) < MAX_NOTE_BYTES
    assert Ledger.of(offset, note).is_settled(1_019_999)


@pytest.mark.parametrize("note", ["what another program wrote", "AAAA", "eJwDAAAAAAE"])
def test_a_note_that_is_not_ours_is_refused(note: str) -> None:
    with pytest.raises(ValueError, match="note beside the offset"):
        Ledger.of(5, note)


def test_a_note_that_unpacks_to_gigabytes_is_refused() -> None:
    bomb = base64.b64encode(zlib.compress(bytes(4 * 1024 * 1024), 9)).decode()
    assert len(bomb) < 3 * MAX_NOTE_BYTES
    with pytest.raises(ValueError, match="too large"):
        Ledger.of(5, bomb)
