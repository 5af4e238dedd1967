"""Outcomes to records: ranked lists, impressions and dead letters."""

from dataclasses import dataclass
from typing import Literal

from schemas.cloudevents import IMPRESSION, RANKED_LIST, TRACE_HEADERS, headers
from schemas.events import (
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
from worker.reranker import Answer, Outcome
from worker.settings import TopicSettings

MAX_MESSAGE_BYTES = 1024
# A header name that could be taken for one of ours is not passed on twice.
DLQ_PREFIX = "dlq."


@dataclass(frozen=True)
class Publisher:
    """Builds the records of the three output topics."""

    topics: TopicSettings
    worker: str
    feedback_text: Literal["never", "inline", "always"]
    clock: Clock

    def records(self, outcome: Outcome) -> list[Outgoing]:
        """Return what one query leads to: a list and an impression, or a dead letter."""
        if isinstance(outcome, Answer):
            return [self._result(outcome), self._impression(outcome)]
        return [self.dead_letter(outcome.query.record, outcome.error)]

    def dead_letter(self, record: Record, error: BadRecordError) -> Outgoing:
        """Return the record as it came, with headers that say where it came from and why."""
        added = DeadLetterHeaders(
            topic=record.partition.topic,
            partition=record.partition.number,
            offset=record.offset,
            timestamp=record.timestamp_ms,
            error_class=type(error).__name__,
            error_message=bounded(str(error)),
            worker=self.worker,
        ).model_dump(by_alias=True)
        original = tuple(pair for pair in record.headers if not pair[0].startswith(DLQ_PREFIX))
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
            shown=tuple(self._shown(answer, document) for document in answer.ranking),
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
        cache=CacheCounts(hits=answer.hits, misses=answer.misses),
        timings_ms=Timings(
            queue=_ms(answer.queue_s),
            retrieve=_ms(answer.retrieve_s),
            score=_ms(answer.score_s),
            total=_ms(answer.total_s),
        ),
    )


def bounded(message: str) -> str:
    """Return at most `MAX_MESSAGE_BYTES` bytes of UTF-8 on one line."""
    line = " ".join(message.split())
    return line.encode(errors="replace")[:MAX_MESSAGE_BYTES].decode(errors="ignore")


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
