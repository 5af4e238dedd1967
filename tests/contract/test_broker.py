"""What the worker relies on a broker for: the same tests on the fake and on Apache Kafka."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.contract.sites import (
    POLL_S,
    SETTLE_S,
    KafkaSite,
    MemorySite,
    Site,
    partition,
    poll_records,
    settle,
)
from worker.broker import Broker, Lease
from worker.errors import CommitAbortedError
from worker.records import Headers, Outgoing, next_offsets

MakeSite = Callable[..., Site]


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
def make_site(request: pytest.FixtureRequest) -> Iterator[MakeSite]:
    """Make a site of the topic of queries with so many partitions."""
    made: list[Site] = []

    def make(partitions: int = 1) -> Site:
        if request.param == "memory":
            made.append(MemorySite(partitions))
        else:
            made.append(KafkaSite(request.getfixturevalue("kafka"), partitions))
        return made[-1]

    yield make
    for site in made:
        site.close()


def ask(site: Site, count: int, number: int = 0, first: int = 0) -> None:
    for index in range(first, first + count):
        value = f"{number}-{index}".encode()
        site.produce(number, Outgoing(site.topics.queries, b"k", value, ()))


def answer(site: Site, value: bytes, headers: Headers = ()) -> Outgoing:
    return Outgoing(site.topics.results, b"k", value, headers)


def values(site: Site, topic: str, count: int = 0) -> list[bytes | None]:
    return [value for _, value, _ in site.read(topic, count)]


def nothing_comes(member: Broker, polls: int = 10) -> bool:
    return not any(member.poll(10, POLL_S).records for _ in range(polls))


def test_records_come_in_order_and_once(make_site: MakeSite) -> None:
    site = make_site()
    ask(site, 25)
    member = site.join()
    found = []
    for _ in range(5):
        records, _ = poll_records(member, 5)
        found.extend(records)
    assert [record.value for record in found] == [f"0-{n}".encode() for n in range(25)]
    assert [record.offset for record in found] == list(range(25))
    assert {record.partition for record in found} == {partition(site, 0)}
    assert nothing_comes(member)


def test_a_poll_never_gives_more_than_was_asked_for(make_site: MakeSite) -> None:
    site = make_site()
    ask(site, 10)
    member = site.join()
    seen = 0
    deadline_s = time.monotonic() + SETTLE_S
    while seen < 10:
        polled = member.poll(3, POLL_S)
        assert len(polled.records) <= 3
        seen += len(polled.records)
        assert time.monotonic() < deadline_s


def test_each_partition_keeps_its_order(make_site: MakeSite) -> None:
    site = make_site(3)
    for number in range(3):
        ask(site, 8, number)
    records, _ = poll_records(site.join(), 24)
    for number in range(3):
        found = [one.value for one in records if one.partition == partition(site, number)]
        assert found == [f"{number}-{n}".encode() for n in range(8)]


@pytest.mark.parametrize("key", [None, b"", b"\x00\xff"])
@pytest.mark.parametrize("value", [None, b"", b"\x00\xff"])
def test_bytes_come_through_untouched(
    make_site: MakeSite, key: bytes | None, value: bytes | None
) -> None:
    headers: Headers = (("a", b"\xff\x00"), ("a", b"again"), ("é", b"x"), ("", b""))
    site = make_site()
    site.produce(0, Outgoing(site.topics.queries, key, value, headers))
    member = site.join()
    (record,), lease = poll_records(member, 1)
    assert (record.key, record.value, record.headers) == (key, value, headers)
    letter = Outgoing(site.topics.dead_letters, record.key, record.value, record.headers)
    member.commit([letter], next_offsets([record]), lease)
    assert site.read(site.topics.dead_letters, 1) == [(key, value, headers)]


def test_a_header_name_that_is_not_utf8_does_not_stop_its_partition(make_site: MakeSite) -> None:
    """The client would raise once, and never return from the poll after it."""
    site = make_site()
    ask(site, 2)
    value = b"the ones before and after it in its batch are read too"
    site.produce_raw_header_names(
        Outgoing(site.topics.queries, b"k", value, ((r"a\xff", b"1"), ("é", b"2"))), 3
    )
    ask(site, 2, first=2)
    member = site.join()
    records, lease = poll_records(member, 7)
    assert [record.offset for record in records] == list(range(7))
    assert [record.value for record in records[2:5]] == [value] * 3
    assert {record.headers for record in records[2:5]} == {((r"a\xff", b"1"), ("é", b"2"))}
    assert {record.headers for record in records[:2] + records[5:]} == {()}
    letter = Outgoing(site.topics.dead_letters, b"k", value, records[2].headers)
    member.commit([letter], next_offsets(records), lease)
    assert site.read(site.topics.dead_letters, 1) == [(b"k", value, records[2].headers)]


def test_a_header_without_a_value_does_not_stop_its_record(make_site: MakeSite) -> None:
    site = make_site()
    site.produce(0, Outgoing(site.topics.queries, b"k", b"v", (("a", None), ("b", b"c"))))
    member = site.join()
    (record,), lease = poll_records(member, 1)
    assert record.headers == (("a", None), ("b", b"c"))
    member.commit([answer(site, b"v", record.headers)], next_offsets([record]), lease)
    ((_, _, headers),) = site.read(site.topics.results, 1)
    assert headers in {(("a", None), ("b", b"c")), (("a", b""), ("b", b"c"))}


def test_a_timestamp_is_unix_time_in_milliseconds(make_site: MakeSite) -> None:
    site = make_site()
    ask(site, 1)
    ((record,), _) = poll_records(site.join(), 1)
    assert 1_600_000_000_000 < record.timestamp_ms < 4_000_000_000_000


def test_a_commit_makes_records_and_offsets_visible_together(make_site: MakeSite) -> None:
    site = make_site()
    ask(site, 3)
    member = site.join()
    records, lease = poll_records(member, 3)
    assert site.committed() == {}
    out = [answer(site, b"one"), Outgoing(site.topics.feedback, b"k", b"two", ())]
    member.commit(out, next_offsets(records), lease)
    assert values(site, site.topics.results, 1) == [b"one"]
    assert values(site, site.topics.feedback, 1) == [b"two"]
    assert site.committed() == {0: 3}


def test_commits_follow_one_another(make_site: MakeSite) -> None:
    site = make_site()
    ask(site, 6)
    member = site.join()
    for number in range(3):
        records, lease = poll_records(member, 2)
        member.commit([answer(site, b"%d" % number)], next_offsets(records), lease)
    assert values(site, site.topics.results, 3) == [b"0", b"1", b"2"]
    assert site.committed() == {0: 6}


def test_a_stale_lease_commits_nothing(make_site: MakeSite) -> None:
    site = make_site(2)
    ask(site, 2, 0)
    ask(site, 2, 1)
    member = site.join()
    records, lease = poll_records(member, 4)
    site.join()
    with pytest.raises(CommitAbortedError):
        member.commit([answer(site, b"stale")], next_offsets(records), lease)
    assert values(site, site.topics.results) == []
    assert site.committed() == {}


def test_a_refused_commit_leaves_no_offset_behind(make_site: MakeSite) -> None:
    """kafka-python keeps refused offsets, and would commit them with the next transaction."""
    site = make_site(2)
    ask(site, 2, 0)
    ask(site, 2, 1)
    first = site.join()
    records, lease = poll_records(first, 4)
    site.join()
    with pytest.raises(CommitAbortedError):
        first.commit([answer(site, b"stale")], next_offsets(records), lease)
    first.rewind()
    (mine,) = first.assigned()
    again, fresh = poll_records(first, 2)
    first.commit([answer(site, b"good")], next_offsets(again), fresh)
    assert site.committed() == {mine.number: 2}


def test_after_a_refused_commit_the_work_is_done_again(make_site: MakeSite) -> None:
    site = make_site(2)
    ask(site, 2, 0)
    ask(site, 2, 1)
    first = site.join()
    records, lease = poll_records(first, 4)
    second = site.join()
    with pytest.raises(CommitAbortedError):
        first.commit([answer(site, b"stale")], next_offsets(records), lease)
    for member in (first, second):
        member.rewind()
        again, fresh = poll_records(member, 2)
        member.commit([answer(site, one.value or b"") for one in again], next_offsets(again), fresh)
    assert sorted(value or b"" for value in values(site, site.topics.results, 4)) == [
        b"0-0",
        b"0-1",
        b"1-0",
        b"1-1",
    ]
    assert site.committed() == {0: 2, 1: 2}


@pytest.mark.parametrize("change", [{"generation": 99}, {"generation": -5}])
def test_a_lease_that_was_never_given_commits_nothing(
    make_site: MakeSite, change: dict[str, int]
) -> None:
    site = make_site()
    ask(site, 1)
    member = site.join()
    records, lease = poll_records(member, 1)
    forged = Lease(lease.group_id, change["generation"], lease.member)
    with pytest.raises(CommitAbortedError):
        member.commit([answer(site, b"forged")], next_offsets(records), forged)
    assert values(site, site.topics.results) == []
    assert site.committed() == {}
    member.commit([answer(site, b"good")], next_offsets(records), lease)
    assert values(site, site.topics.results, 1) == [b"good"]


def test_a_rewind_goes_to_the_committed_offset(make_site: MakeSite) -> None:
    site = make_site()
    ask(site, 6)
    member = site.join()
    records, lease = poll_records(member, 2)
    member.commit([answer(site, b"x")], next_offsets(records), lease)
    ahead, _ = poll_records(member, 3)
    assert [one.offset for one in ahead] == [2, 3, 4]
    member.rewind()
    again, _ = poll_records(member, 4)
    assert [one.offset for one in again] == [2, 3, 4, 5]


def test_a_rewind_without_a_commit_goes_to_the_beginning(make_site: MakeSite) -> None:
    site = make_site(2)
    ask(site, 2, 0)
    ask(site, 2, 1)
    member = site.join()
    poll_records(member, 4)
    member.rewind()
    again, _ = poll_records(member, 4)
    assert sorted(one.value or b"" for one in again) == [b"0-0", b"0-1", b"1-0", b"1-1"]


def test_a_paused_member_reads_nothing_and_stays_one(make_site: MakeSite) -> None:
    site = make_site()
    ask(site, 4)
    member = site.join()
    records, lease = poll_records(member, 2)
    member.pause()
    member.pause()
    assert nothing_comes(member)
    member.commit([answer(site, b"x")], next_offsets(records), lease)
    assert site.committed() == {0: 2}
    member.resume()
    member.resume()
    more, again = poll_records(member, 2)
    assert [one.offset for one in more] == [2, 3]
    assert again == lease


def test_a_pause_outlives_a_move(make_site: MakeSite) -> None:
    site = make_site(2)
    ask(site, 2, 0)
    ask(site, 2, 1)
    first = site.join()
    first.pause()
    second = site.join()  # settles, which resumes
    first.pause()
    site.leave(second)
    deadline_s = time.monotonic() + SETTLE_S
    while len(first.assigned()) < 2:
        assert not first.poll(10, POLL_S).records
        assert time.monotonic() < deadline_s
    assert nothing_comes(first)


def test_partitions_move_to_a_new_member_and_back(make_site: MakeSite) -> None:
    site = make_site(4)
    first = site.join()
    assert first.assigned() == [partition(site, number) for number in range(4)]
    second = site.join()
    assert len(first.assigned()) == len(second.assigned()) == 2
    assert {*first.assigned(), *second.assigned()} == {partition(site, n) for n in range(4)}
    site.leave(second)
    settle([first], 4)
    assert len(first.assigned()) == 4


def test_a_new_member_begins_at_the_committed_offset(make_site: MakeSite) -> None:
    site = make_site()
    ask(site, 5)
    first = site.join()
    records, lease = poll_records(first, 3)
    first.commit([answer(site, b"x")], next_offsets(records), lease)
    site.leave(first)
    more, _ = poll_records(site.join(), 2)
    assert [one.offset for one in more] == [3, 4]


def test_lag_is_what_waits_behind_the_position(make_site: MakeSite) -> None:
    site = make_site()
    ask(site, 10)
    member = site.join()
    poll_records(member, 4)
    assert dict(member.lag()) == {partition(site, 0): 6}
    poll_records(member, 6)
    assert dict(member.lag()) == {partition(site, 0): 0}


def test_a_large_transaction(make_site: MakeSite) -> None:
    site = make_site()
    ask(site, 1)
    member = site.join()
    records, lease = poll_records(member, 1)
    out = [answer(site, b"%d" % number + b"x" * 2_000) for number in range(500)]
    member.commit(out, next_offsets(records), lease)
    assert values(site, site.topics.results, 500) == [one.value for one in out]


def test_closing_twice_is_no_error(make_site: MakeSite) -> None:
    site = make_site()
    member = site.join()
    site.leave(member)
    member.close()
