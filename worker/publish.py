"""Outcomes to records: ranked lists, impressions and dead letters."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from schemas.cloudevents import IMPRESSION, RANKED_LIST, TRACE_HEADERS, headers
from schemas.events import (
    DEAD_LETTER_PREFIX,
    HEADERS_OMITTED,
    KEY_OMITTED,
    REPLAYS,
    VALUE_OMITTED,
    CacheCounts,
    DeadLetterHeaders,
    Impression,
    RankedDocument,
    RankedList,
    ShownDocument,
    Timings,
)
from worker.clock import Clock
from worker.errors import BadRecordError
from worker.records import Headers, Outgoing, Record
from worker.reranker import Answer, Outcome, Rejection
from worker.settings import TopicSettings

MAX_MESSAGE_BYTES = 1024
# What the broker counts beside key, value and headers of a record that travels alone.
BATCH_OVERHEAD_BYTES = 512
MAX_REPLAYS_DIGITS = 9


@dataclass(frozen=True)
class Published:
    """What became of a query, and its records."""

    outcome: Outcome
    records: list[Outgoing]


@dataclass(frozen=True)
class Publisher:
    """Builds the records of the three output topics. `max_bytes` holds what each topic takes."""

    topics: TopicSettings
    worker: str
    feedback_text: Literal["never", "inline", "always"]
    clock: Clock
    max_bytes: Mapping[str, int]

    def publish(self, outcome: Outcome) -> Published:
        """Return what one query leads to: a list and an impression, or a dead letter.

        An answer that its topic would refuse becomes a dead letter: otherwise the transaction
        would fail, be done again, and fail again.
        """
        if isinstance(outcome, Answer):
            records = [self._result(outcome), self._impression(outcome)]
            refused = next((record for record in records if not self._fits(record)), None)
            if refused is None:
                return Published(outcome, records)
            outcome = Rejection(outcome.query, _too_large(refused))
        return Published(outcome, [self.dead_letter(outcome.query.record, outcome.error)])

    def dead_letter(self, record: Record, error: BadRecordError) -> Outgoing:
        """Return the record as it came, with headers that say where it came from and why.

        Where the dead-letter topic takes less than the record's own topic did, first the value is
        left out, then the original headers, then the key, and a header says how much that was.
        """
        letters = list(_ever_smaller(self._dead_letter(record, error)))
        return next((letter for letter in letters if self._fits(letter)), letters[-1])

    def _fits(self, record: Outgoing) -> bool:
        limit = self.max_bytes.get(record.topic)
        return limit is None or size_of(record) + BATCH_OVERHEAD_BYTES <= limit

    def _dead_letter(self, record: Record, error: BadRecordError) -> Outgoing:
        added = DeadLetterHeaders(
            topic=record.partition.topic,
            partition=record.partition.number,
            offset=record.offset,
            timestamp=record.timestamp_ms,
            error_class=type(error).__name__,
            error_message=bounded(str(error)),
            worker=self.worker,
            replays=replays_of(record) or None,
        ).model_dump(by_alias=True)
        # A header name that could be taken for one of ours is not passed on.
        original = tuple(
            pair for pair in record.headers if not pair[0].startswith(DEAD_LETTER_PREFIX)
        )
        ours = tuple((name, str(value).encode()) for name, value in added.items())
        return Outgoing(self.topics.dead_letters, record.key, record.value, original + ours)

    def _result(self, answer: Answer) -> Outgoing:
        value = ranked_list(answer).model_dump_json().encode()
        return self._event(self.topics.results, answer, value, RANKED_LIST, "result")

    def _impression(self, answer: Answer) -> Outgoing:
        event = answer.query.event
        value = Impression(
            query_id=event.query_id,
            query=event.query,
            tenant=event.tenant,
            model=answer.model,
            tier=answer.tier,
            shown=tuple(self._shown(answer, document) for document in answer.ranking),
            experiment=answer.experiment,
        )
        return self._event(
            self.topics.feedback, answer, value.model_dump_json().encode(), IMPRESSION, "impression"
        )

    def _shown(self, answer: Answer, document: RankedDocument) -> ShownDocument:
        inline = answer.query.event.candidates is not None
        with_text = self.feedback_text == "always" or (self.feedback_text == "inline" and inline)
        return ShownDocument.model_construct(
            doc_id=document.doc_id,
            rank=document.rank,
            score=document.score,
            retrieval_rank=document.retrieval_rank,
            text=document.text if with_text else None,
        )

    def _event(self, topic: str, answer: Answer, value: bytes, kind: str, suffix: str) -> Outgoing:
        record = answer.query.record
        # The id follows from the input record: doing the same work again gives the same id.
        place = f"{record.partition.topic}/{record.partition.number}/{record.offset}/{suffix}"
        ours = headers(place, kind, "/kafka-reranker", self.clock.now())
        trace: Headers = tuple(pair for pair in record.headers if pair[0] in TRACE_HEADERS)
        key = answer.query.event.query_id.encode()
        return Outgoing(topic, key, value, (*ours.items(), *trace))


def ranked_list(answer: Answer) -> RankedList:
    """Return the event of an answer; texts only where they were asked for."""
    ranking = answer.ranking
    if not answer.query.event.return_text:
        ranking = tuple(document.model_copy(update={"text": None}) for document in ranking)
    return RankedList(
        query_id=answer.query.event.query_id,
        ranking=ranking,
        tier=answer.tier,
        degraded=answer.degraded,
        model=answer.model,
        index=answer.index,
        cache=CacheCounts(
            hits=answer.hits + answer.challenger_hits,
            misses=answer.misses + answer.challenger_misses,
        ),
        timings_ms=Timings(
            queue=_ms(answer.queue_s),
            retrieve=_ms(answer.retrieve_s),
            score=_ms(answer.score_s),
            total=_ms(answer.total_s),
        ),
        experiment=answer.experiment,
    )


def replays_of(record: Record) -> int:
    """Return how often a record has been sent again, as its header says; 0 where it says nothing.

    Anybody can write the header, so only a short run of digits counts.
    """
    value = record.header(REPLAYS) or b""
    return int(value) if value.isdigit() and len(value) <= MAX_REPLAYS_DIGITS else 0


def size_of(record: Outgoing) -> int:
    """Return the bytes of key, value and headers."""
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


def _ever_smaller(letter: Outgoing) -> Iterator[Outgoing]:
    """Yield the letter, then with ever less of the record; the last has but our own headers."""
    yield letter
    letter = _without(letter, VALUE_OMITTED, len(letter.value or b""), value=None)
    yield letter
    ours = tuple(pair for pair in letter.headers if pair[0].startswith(DEAD_LETTER_PREFIX))
    originals = len(letter.headers) - len(ours)
    letter = _without(replace(letter, headers=ours), HEADERS_OMITTED, originals)
    yield letter
    yield _without(letter, KEY_OMITTED, len(letter.key or b""), key=None)


def _without(letter: Outgoing, name: str, size: int, **changes: None) -> Outgoing:
    said = (name, str(size).encode())
    return replace(letter, headers=(*letter.headers, said), **changes)  # type: ignore[arg-type]


def _too_large(record: Outgoing) -> BadRecordError:
    return BadRecordError(
        f"the answer has {size_of(record)} bytes, more than max.message.bytes of {record.topic} "
        "allows: ask for fewer entries or no texts"
    )


def bounded(message: str) -> str:
    """Return at most `MAX_MESSAGE_BYTES` bytes of UTF-8 on one line."""
    line = " ".join(message.split())
    return line.encode(errors="replace")[:MAX_MESSAGE_BYTES].decode(errors="ignore")


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
