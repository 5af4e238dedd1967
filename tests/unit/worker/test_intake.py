"""Records to batches: bounds, order, and nothing lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import worker.intake
from tests.fakes.events import event_json, record_of
from worker.broker import Lease
from worker.decode import Query, decode
from worker.intake import BadRecord, Batch, Intake
from worker.records import Record
from worker.settings import BatchSettings, LimitSettings

LEASE = Lease("g", 1, "m")


def intake(max_events: int = 4, max_pairs: int = 10) -> Intake:
    return Intake(BatchSettings(max_events=max_events, max_pairs=max_pairs), LimitSettings())


def record(offset: int, pairs: int | None) -> Record:
    """A record of an event with so many candidates; None for a bad one."""
    value = b"bad" if pairs is None else event_json(f"q{offset}", texts=["t"] * pairs)
    return record_of(value, offset=offset)


def batches(of: Intake) -> list[Batch]:
    found = []
    while (batch := of.cut()) is not None:
        found.append(batch)
    return found


def offsets(found: list[Batch]) -> list[list[int]]:
    return [[one.offset for one in batch.records] for batch in found]


def cut(sizes: list[int | None], **bounds: int) -> list[list[int]]:
    of = intake(**bounds)
    of.add([record(offset, pairs) for offset, pairs in enumerate(sizes)], LEASE)
    return offsets(batches(of))


def test_cut_by_events() -> None:
    assert cut([1] * 9) == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]


def test_cut_by_pairs() -> None:
    assert cut([5, 5, 1, 9, 2]) == [[0, 1], [2, 3], [4]]


def test_one_enormous_event_is_a_batch_of_its_own() -> None:
    assert cut([1, 500, 1]) == [[0], [1], [2]]


def test_bad_records_take_no_pairs_but_a_place() -> None:
    assert cut([10, None, None, None, None, 10]) == [[0, 1, 2, 3], [4, 5]]


def test_a_bad_record_says_why_and_stays_in_its_place() -> None:
    of = intake()
    of.add([record(0, 1), record(1, None), record(2, 1)], LEASE)
    (batch,) = batches(of)
    assert [type(item) for item in batch.items] == [Query, BadRecord, Query]
    assert [one.record.offset for one in batch.queries] == [0, 2]
    assert isinstance(batch.items[1], BadRecord)
    assert "Invalid JSON" in str(batch.items[1].error)


def test_a_decoder_that_breaks_breaks_one_record(monkeypatch: pytest.MonkeyPatch) -> None:
    def fragile(one: Record, limits: LimitSettings) -> Query:
        if one.offset == 1:
            raise RecursionError("a secret")
        return decode(one, limits)

    monkeypatch.setattr(worker.intake, "decode", fragile)
    of = intake()
    of.add([record(offset, 1) for offset in range(3)], LEASE)
    (batch,) = batches(of)
    assert [type(item) for item in batch.items] == [Query, BadRecord, Query]
    assert isinstance(batch.items[1], BadRecord)
    assert str(batch.items[1].error) == "undecodable: RecursionError"


def test_a_retrieved_query_counts_as_its_top_k() -> None:
    of = intake(max_pairs=10)
    values = [event_json("q", top_k=6), event_json("q", top_k=4), event_json("q", top_k=1)]
    of.add([record_of(value, offset=number) for number, value in enumerate(values)], LEASE)
    assert offsets(batches(of)) == [[0, 1], [2]]


def test_nothing_to_cut() -> None:
    of = intake()
    assert of.cut() is None
    of.add([], LEASE)
    assert of.cut() is None


def test_without_a_lease_nothing_is_cut() -> None:
    of = intake()
    of.add([record(0, 1)], None)
    assert of.cut() is None


def test_a_batch_carries_the_lease_of_its_records() -> None:
    of = intake()
    of.add([record(0, 1)], LEASE)
    of.add([], None)
    batch = of.cut()
    assert batch is not None
    assert batch.lease == LEASE


def test_cleared_is_empty_and_without_a_lease() -> None:
    of = intake()
    of.add([record(0, 1)], LEASE)
    of.clear()
    assert not len(of)
    assert of.cut() is None
    of.add([record(0, 1)], None)
    assert of.cut() is None


def test_it_wants_no_more_than_a_batch_waiting() -> None:
    of = intake(max_events=4)
    wanted = [of.wants_more]
    of.add([record(offset, 1) for offset in range(4)], LEASE)
    wanted.append(of.wants_more)
    of.cut()
    wanted.append(of.wants_more)
    assert wanted == [True, False, True]


@given(st.lists(st.none() | st.integers(0, 12), max_size=30), st.integers(1, 6), st.integers(1, 10))
def test_batches_are_the_records_in_order_within_bounds(
    sizes: list[int | None], max_events: int, max_pairs: int
) -> None:
    found = cut(sizes, max_events=max_events, max_pairs=max_pairs)
    assert [offset for batch in found for offset in batch] == list(range(len(sizes)))
    for batch in found:
        assert 1 <= len(batch) <= max_events
        assert len(batch) == 1 or sum(sizes[offset] or 0 for offset in batch) <= max_pairs
