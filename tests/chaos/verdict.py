"""What is on the topics against what was asked: sets and order, read with another client library.

Nothing here knows how the worker works; even an input's place is found by its query id.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition

from tests.chaos.load import Event, ids
from tests.checker import (
    Record,
    assert_exactly_once,
    assert_partition_order,
    committed_offsets,
    end_offsets,
    read_topic,
)
from tests.services.process import await_condition
from tests.services.topics import Topics

# A transaction of a worker that is gone stays open for as long as its time-out.
SETTLE_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Verdict:
    """Counts of one run. `torn`: events of which not all records are there, or too many."""

    asked: int
    answered: int
    impressions: int
    dead_letters: int
    lost: int
    duplicated: int
    torn: int
    misordered: int
    behind: int

    @property
    def clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.duplicated or self.torn or self.misordered or self.behind)


def judge(bootstrap: str, topics: Topics, events: Sequence[Event]) -> Verdict:
    """Read all topics under read_committed and count what is wrong."""
    queries = read_topic(bootstrap, topics.queries)
    results = read_topic(bootstrap, topics.results)
    impressions = read_topic(bootstrap, topics.feedback)
    letters = read_topic(bootstrap, topics.dead_letters)
    asked = Counter(record.query_id for record in queries)
    ended = Counter(record.query_id for record in (*results, *letters))
    shown = Counter(record.query_id for record in impressions)
    wanted_shown = Counter(ids(events, bad=False))
    wanted_letters = Counter(ids(events, bad=True))
    dead = Counter(record.query_id for record in letters)
    torn = _difference(shown, wanted_shown) + _difference(dead, wanted_letters)
    ends = end_offsets(bootstrap, topics.queries)
    committed = committed_offsets(bootstrap, topics.group_id, topics.queries)
    return Verdict(
        asked=asked.total(),
        answered=len(results),
        impressions=len(impressions),
        dead_letters=len(letters),
        lost=(asked - ended).total() + (Counter(one.query_id for one in events) - asked).total(),
        duplicated=(ended - asked).total(),
        torn=torn,
        misordered=sum(_misordered(queries, found) for found in (results, impressions, letters)),
        behind=sum(end - committed.get(partition, 0) for partition, end in ends.items()),
    )


def await_settled(bootstrap: str, topics: Topics) -> None:
    """Return once no transaction is open on the topics that workers write.

    Offsets can be committed to the end while one is: what lies behind the records of a worker that
    has died is not read until the broker gives that worker up, and a commit reaches each partition
    in its own time.
    """
    written = (topics.results, topics.feedback, topics.dead_letters)

    def settled() -> bool:
        try:
            return not any(open_records(bootstrap, topic) for topic in written)
        except KafkaException:  # A broker that has just come back is asked again.
            return False

    await_condition(settled, SETTLE_TIMEOUT_S, lambda: "transactions stay open")


def assert_kept(bootstrap: str, topics: Topics, events: Sequence[Event]) -> Verdict:
    """Fail, with the query ids, unless each event has what it must have, once and in order."""
    queries = read_topic(bootstrap, topics.queries)
    results = read_topic(bootstrap, topics.results)
    impressions = read_topic(bootstrap, topics.feedback)
    assert_exactly_once(ids(events, bad=False), results)
    assert_exactly_once(ids(events, bad=False), impressions)
    values = {event.query_id: event.value for event in events}
    letters = read_topic(bootstrap, topics.dead_letters)
    assert Counter(one.query_id for one in letters) == Counter(ids(events, bad=True))
    assert all(letter.value == values[letter.query_id] for letter in letters), "bytes changed"
    for found in (results, impressions, letters):
        assert_partition_order(queries, found)
    verdict = judge(bootstrap, topics, events)
    assert verdict.clean, verdict
    return verdict


def assert_no_gap(bootstrap: str, topics: Topics) -> None:
    """Fail unless exactly the events below the committed offsets are answered.

    Only where no worker runs: otherwise offsets and answers are read at different moments.
    """
    committed = committed_offsets(bootstrap, topics.group_id, topics.queries)
    below = Counter(
        record.query_id
        for record in read_topic(bootstrap, topics.queries)
        if record.offset < committed.get(record.partition, 0)
    )
    ended = Counter(
        record.query_id
        for topic in (topics.results, topics.dead_letters)
        for record in read_topic(bootstrap, topic)
    )
    assert ended == below, f"answered, not committed: {ended - below}; the other: {below - ended}"


def aborted_records(bootstrap: str, topic: str) -> int:
    """Return how many records of given-up transactions a topic holds: invisible, but there.

    Those of a transaction that is open count too.
    """
    committed = len(read_topic(bootstrap, topic))
    with _uncommitted(bootstrap) as consumer:
        partitions = consumer.list_topics(topic, timeout=60).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        unread, count = set(partitions), 0
        while unread:
            for message in consumer.consume(500, timeout=1):
                if message.error() is None:
                    count += 1
                else:
                    unread.discard(message.partition() or 0)
    return count - committed


def open_records(bootstrap: str, topic: str) -> int:
    """Return how many records can't be read yet, as they lie behind an open transaction."""
    with _uncommitted(bootstrap) as consumer:
        return sum(
            consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=60)[1] - end
            for number, end in end_offsets(bootstrap, topic).items()
        )


@contextmanager
def _uncommitted(bootstrap: str) -> Iterator[Consumer]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "chaos-count",
            "isolation.level": "read_uncommitted",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    try:
        yield consumer
    finally:
        consumer.close()


def _difference(found: Counter[str], wanted: Counter[str]) -> int:
    return (found - wanted).total() + (wanted - found).total()


def _misordered(queries: Iterable[Record], found: Sequence[Record]) -> int:
    """Return how many records come after one whose query came later."""
    place = {query.query_id: (query.partition, query.offset) for query in queries}
    last: dict[tuple[int, int], int] = {}
    wrong = 0
    for record in found:
        partition, offset = place.get(record.query_id, (-1, 0))
        way = (partition, record.partition)
        wrong += offset < last.get(way, -1)
        last[way] = max(last.get(way, -1), offset)
    return wrong
