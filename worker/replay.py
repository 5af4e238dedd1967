"""`python -m worker replay`: dead letters back onto the topic that they came from.

A letter is sent and settled in one Kafka transaction, so it is replayed once however often the
command is started, killed or started twice. Letters that a filter leaves behind can be replayed
later (see `worker.letters.Ledger`).
"""

import logging
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError

from schemas.events import HEADERS_OMITTED, KEY_OMITTED, VALUE_OMITTED
from worker.broker import Polled
from worker.build import RECORD_OVERHEAD_BYTES
from worker.errors import FatalError, StartError, TransientError
from worker.kafka_broker import KafkaBroker, to_record
from worker.kafka_client import make_consumer, make_producer, message_limits
from worker.letters import MAX_NOTE_BYTES, Choice, Ledger, Letter, read_letter
from worker.logs import configure_logs
from worker.publish import BATCH_OVERHEAD_BYTES, size_of
from worker.records import Outgoing, Partition, Record
from worker.replay_options import Options, parse
from worker.replay_report import Report, open_report
from worker.settings import Settings
from worker.watchdog import Watchdog

# Letters of one transaction.
BATCH = 100
# Until the group is stable, polls must be long: a join that ends between two polls is lost.
JOIN_POLL_S = 5.0
JOIN_TIMEOUT_S = 60.0
POLL_S = 0.25
EXIT_SOME_LEFT = 1
NOT_WHOLE = (
    "its {part} was left out, too large for the dead-letter topic; the record may still be on "
    "its own"
)
PARTS = {VALUE_OMITTED: "value", HEADERS_OMITTED: "headers", KEY_OMITTED: "key"}


def main(arguments: Sequence[str]) -> int:
    """Replay, and return the exit code: 1 where a chosen letter can't be replayed."""
    options, settings = parse(arguments)
    configure_logs(settings.log)
    # Whatever goes wrong is raised; what the client says beside that, such as of its own closing,
    # would stand between letters.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    with open_report(options) as report:
        try:
            run = _dry_run if options.dry_run else _replay
            return run(settings, options, report)
        except (TransientError, KafkaError) as error:
            raise FatalError(
                f"replay stopped after {report.done} letters: {error}; what was replayed is "
                "settled: run it again to go on"
            ) from None


def _dry_run(settings: Settings, options: Options, report: Report) -> int:
    """Look through the letters without joining the group or writing anything."""
    consumer = _consumer(settings, options)
    try:
        partitions = _partitions(consumer, settings.kafka.topics.dead_letters)
        places = [TopicPartition(each.topic, each.number) for each in partitions]
        consumer.assign(places)
        sorter = _sorter(consumer, settings, options, report, partitions)
        for place in places:
            first = sorter.ledgers[Partition(place.topic, place.partition)].first
            consumer.seek(place, first) if first else consumer.seek_to_beginning(place)
        with _stopping() as stop:
            while not (stop() or sorter.full or _at_end(consumer, sorter.ends)):
                found = consumer.poll(timeout_ms=int(POLL_S * 1000), max_records=BATCH)
                sorter.sort([to_record(raw) for batch in found.values() for raw in batch])
                report.progress(_behind(consumer, sorter.ends))
    finally:
        consumer.close(autocommit=False)
    return EXIT_SOME_LEFT if report.refused else 0


def _replay(settings: Settings, options: Options, report: Report) -> int:
    kafka = _as_reader(settings, options)
    consumer = _consumer(settings, options)
    partitions = _partitions(consumer, settings.kafka.topics.dead_letters)
    broker = KafkaBroker(consumer, make_producer(kafka), kafka, Watchdog())
    try:
        _join(broker, partitions, options)
        sorter = _sorter(consumer, settings, options, report, partitions)
        with _stopping() as stop:
            pace = _Pace(options.rate, stop)
            while not (stop() or sorter.full or _at_end(consumer, sorter.ends)):
                polled = broker.poll(pace.batch, POLL_S)
                if polled.moved:
                    # Another replay may have come and gone: what it settled is not ours to send.
                    _await_all(broker, partitions, options)
                    sorter.ledgers = _ledgers(consumer, settings, options, partitions)
                    continue
                sent = sorter.sort(polled.records)
                _commit(broker, sorter, sent, polled)
                report.progress(_behind(consumer, sorter.ends))
                pace.wait(len(sent), broker)
    finally:
        broker.close()
    return EXIT_SOME_LEFT if report.refused else 0


@dataclass
class Sorter:
    """Decides about letters in the order in which they are read."""

    choice: Choice
    to: str | None
    discard: bool
    limit: int | None
    report: Report
    ledgers: Mapping[Partition, Ledger]
    ends: Mapping[Partition, int]
    max_bytes: Mapping[str, int]
    can_write: Callable[[str], bool]
    taken: int = 0
    settled: set[Partition] = field(default_factory=set)

    @property
    def full(self) -> bool:
        """Whether as many as asked for were taken."""
        return self.limit is not None and self.taken >= self.limit

    def sort(self, records: Sequence[Record]) -> list[Outgoing]:
        """Return what is to be sent; notes in the ledgers what is settled by that."""
        self.settled = set()
        sent: list[Outgoing] = []
        for record in records:
            ledger = self.ledgers[record.partition]
            # What came since the start may be what this very run has sent.
            late = record.offset >= self.ends[record.partition]
            if self.full or late or ledger.is_settled(record.offset):
                continue
            outgoing = self._take(record)
            if outgoing is None:
                ledger.leave(record.offset)
                continue
            self.taken += 1
            ledger.settle(record.offset)
            self.settled.add(record.partition)
            sent.extend(outgoing)
        return sent

    def _take(self, record: Record) -> list[Outgoing] | None:
        """Return what to send for a letter that is settled by it, or None where it stays."""
        letter = read_letter(record)
        if letter is None:
            self.report.refuse(record, None, "its dlq.* headers are missing or wrong")
            return None
        if not self.choice.takes(letter):
            self.report.leave(record)
            return None
        if self.discard:
            self.report.take(letter, "nowhere")
            return []
        outgoing = letter.restored(self.to)
        reason = self._refusal(letter, outgoing)
        if reason is not None:
            self.report.refuse(record, letter, reason)
            return None
        self.report.take(letter, outgoing.topic)
        return [outgoing]

    def _refusal(self, letter: Letter, outgoing: Outgoing) -> str | None:
        for header, part in PARTS.items():
            if letter.record.header(header) is not None:
                return NOT_WHOLE.format(part=part)
        limit = self.max_bytes.get(outgoing.topic)
        if limit is not None and size_of(outgoing) + BATCH_OVERHEAD_BYTES > limit:
            return f"it is larger than max.message.bytes of {outgoing.topic} allows"
        if not self.can_write(outgoing.topic):
            return f"topic {outgoing.topic} does not exist"
        return None


class _Pace:
    """So many letters a second, or as many as go."""

    def __init__(self, rate: float | None, stopped: Callable[[], bool]) -> None:
        self._rate = rate
        self._stopped = stopped
        self._free_at_s = time.monotonic()
        self.batch = BATCH if rate is None else max(1, min(BATCH, int(rate)))

    def wait(self, sent: int, broker: KafkaBroker) -> None:
        """Wait until the next batch may be sent, and stay a member meanwhile."""
        if self._rate is None or not sent:
            return
        self._free_at_s = max(self._free_at_s, time.monotonic()) + sent / self._rate
        broker.pause()
        while not self._stopped() and (left := self._free_at_s - time.monotonic()) > 0:
            if broker.poll(1, min(left, POLL_S)).moved:
                raise TransientError("the partitions have moved")
        broker.resume()


def _join(broker: KafkaBroker, partitions: Sequence[Partition], options: Options) -> None:
    broker.join()
    until = time.monotonic() + JOIN_TIMEOUT_S
    # The first poll joins; a member of a settled group that has nothing after the second gets none.
    joined = 0
    while not broker.assigned() and joined < 2 and time.monotonic() < until:
        joined += broker.poll(1, JOIN_POLL_S).lease is not None
    _await_all(broker, partitions, options)


def _await_all(broker: KafkaBroker, partitions: Sequence[Partition], options: Options) -> None:
    """Begin at the committed offsets of all partitions; raises FatalError without all of them."""
    if list(broker.assigned()) != sorted(partitions):
        raise FatalError(
            f"another replay is at work in group {options.group}: wait for it, or name another "
            "with --group"
        )
    broker.rewind()


def _commit(broker: KafkaBroker, sorter: Sorter, sent: Sequence[Outgoing], polled: Polled) -> None:
    """Send the letters, and settle them, in one transaction."""
    if not sorter.settled or polled.lease is None:
        return
    committed = {each: sorter.ledgers[each].to_commit() for each in sorter.settled}
    if any(len(note) > MAX_NOTE_BYTES for _, note in committed.values()):
        raise FatalError(
            f"replay stopped after {sorter.report.done} letters: too many were left between those "
            "that were replayed to remember each: replay or --discard the older ones first"
        )
    broker.notes = {each: note for each, (_, note) in committed.items()}
    broker.commit(sent, {each: offset for each, (offset, _) in committed.items()}, polled.lease)
    sorter.report.committed()


def _sorter(
    consumer: Any,
    settings: Settings,
    options: Options,
    report: Report,
    partitions: Sequence[Partition],
) -> Sorter:
    places = {each: TopicPartition(each.topic, each.number) for each in partitions}
    ends = consumer.end_offsets(list(places.values()))
    ledgers = _ledgers(consumer, settings, options, partitions)
    known: dict[str, bool] = {}

    def can_write(topic: str) -> bool:
        if topic not in known:
            known[topic] = bool(consumer.partitions_for_topic(topic))
        return known[topic]

    if options.to is not None and not can_write(options.to):
        raise StartError(f"--to: topic {options.to!r} does not exist: create it first")
    report.begin(_behind_of(ledgers, places, ends))
    return Sorter(
        choice=options.choice,
        to=options.to,
        discard=options.discard,
        limit=options.limit,
        report=report,
        ledgers=ledgers,
        ends={each: ends[place] for each, place in places.items()},
        max_bytes=message_limits(settings.kafka),
        can_write=can_write,
    )


def _ledgers(
    consumer: Any, settings: Settings, options: Options, partitions: Sequence[Partition]
) -> dict[Partition, Ledger]:
    timeout_ms = settings.kafka.request_timeout_ms
    return {
        each: _ledger(consumer, TopicPartition(each.topic, each.number), timeout_ms, options)
        for each in partitions
    }


def _ledger(consumer: Any, place: Any, timeout_ms: int, options: Options) -> Ledger:
    found = consumer.committed(place, metadata=True, timeout_ms=timeout_ms)
    try:
        return Ledger.of(found and found.offset, found.metadata if found else "")
    except ValueError as error:
        raise StartError(
            f"group {options.group} can't be used: {error}: name another with --group"
        ) from None


def _as_reader(settings: Settings, options: Options) -> Any:
    """Return Kafka settings under which the dead letters are what is read."""
    topics = settings.kafka.topics
    return settings.kafka.model_copy(
        update={
            "group_id": options.group,
            "transactional_id": None,
            "topics": topics.model_copy(update={"queries": topics.dead_letters}),
        }
    )


def _consumer(settings: Settings, options: Options) -> Any:
    size = settings.limits.event_bytes + RECORD_OVERHEAD_BYTES
    return make_consumer(_as_reader(settings, options), fetch_bytes=size)


def _partitions(consumer: Any, topic: str) -> list[Partition]:
    numbers = consumer.partitions_for_topic(topic)
    if not numbers:
        consumer.close(autocommit=False)
        raise StartError(
            f"kafka.topics.dead_letters (RERANKER_KAFKA__TOPICS__DEAD_LETTERS): topic {topic!r} "
            "does not exist (or may not be described): set its name"
        )
    return [Partition(topic, number) for number in sorted(numbers)]


def _at_end(consumer: Any, ends: Mapping[Partition, int]) -> bool:
    return _behind(consumer, ends) == 0


def _behind(consumer: Any, ends: Mapping[Partition, int]) -> int:
    """Return how many offsets are left to read."""
    return sum(
        max(0, end - (consumer.position(TopicPartition(each.topic, each.number)) or 0))
        for each, end in ends.items()
    )


def _behind_of(
    ledgers: Mapping[Partition, Ledger], places: Mapping[Partition, Any], ends: Mapping[Any, int]
) -> int:
    return sum(max(0, ends[place] - ledgers[each].first) for each, place in places.items())


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Let SIGINT and SIGTERM end the loop after the transaction in work; twice ends at once."""
    stopped: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _frame: object) -> None:
        stopped.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, stop)
    try:
        yield lambda: bool(stopped)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
