"""Questions onto the topic, ranked lists off it: what an application does."""

import secrets
import time
import uuid
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from demo.errors import DemoError, RefusedError
from demo.services import TOPICS, Services
from schemas.cloudevents import QUERY, headers
from schemas.events import QueryEvent, RankedList

TOP_K = 100
SOURCE = "/kafka-reranker/demo"
_TIMEOUT_S = 30.0
_ANSWER_TIMEOUT_S = 300.0
_POLL_S = 0.2


@dataclass(frozen=True)
class Answered:
    """A question, its whole ranked list, and the seconds from publishing to reading it."""

    question: str
    ranked: RankedList
    latency_s: float


@dataclass(frozen=True)
class Asking:
    """A producer of questions and a reader of all ranked lists that come from now on."""

    producer: Producer
    consumer: Consumer
    check_worker: Callable[[], None]
    top_k: int = TOP_K
    top_n: int = TOP_K

    def ask(
        self, questions: Sequence[str], answered: Callable[[int], None] = lambda _: None
    ) -> list[Answered]:
        """Publish all questions at once and wait for their lists; raises DemoError.

        The answers come in the order of the questions. `answered` is called with 1 for each.
        """
        sent: dict[str, tuple[str, float]] = {}
        for question in questions:
            event = QueryEvent(
                query_id=f"demo-{uuid.uuid4()}", query=question, top_k=self.top_k, top_n=self.top_n
            )
            sent[event.query_id] = (question, time.perf_counter())
            self._publish(event)
        self.producer.poll(0)
        found: dict[str, Answered] = {}
        for ranked in self._ranked_lists(sent):
            if ranked.query_id not in found:
                question, at_s = sent[ranked.query_id]
                found[ranked.query_id] = Answered(question, ranked, time.perf_counter() - at_s)
                answered(1)
            if len(found) == len(sent):
                break
        return [found[query_id] for query_id in sent]

    def _publish(self, event: QueryEvent) -> None:
        trace = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
        self.producer.produce(
            TOPICS.queries,
            key=event.query_id.encode(),
            value=event.model_dump_json(exclude_none=True).encode(),
            headers={
                **headers(event.query_id, QUERY, SOURCE, time.time()),
                "traceparent": trace.encode(),
            },
        )

    def _ranked_lists(self, wanted: Container[str]) -> Iterator[RankedList]:
        """Give the wanted lists as they come.

        Raises RefusedError for a dead letter of theirs, DemoError when nothing comes for long.
        """
        last_s = time.monotonic()
        while True:
            self.producer.poll(0)
            message = _message(self.consumer.poll(_POLL_S))
            if message is not None and (message.key() or b"").decode() in wanted:
                last_s = time.monotonic()
                yield _ranked_list(message)
                continue
            self.check_worker()
            if time.monotonic() - last_s > _ANSWER_TIMEOUT_S:
                raise DemoError(
                    f"no ranked list came for {_ANSWER_TIMEOUT_S:.0f} s: see the worker's log"
                )


@contextmanager
def asking(
    services: Services, check_worker: Callable[[], None], top_k: int = TOP_K, top_n: int = TOP_K
) -> Iterator[Asking]:
    """Give an open producer and consumer; raises DemoError when Kafka goes away."""
    common = {"bootstrap.servers": services.kafka, "log_level": 0}
    producer = Producer({**common, "enable.idempotence": True, "linger.ms": 0})
    consumer = Consumer(
        {
            **common,
            "group.id": "kafka-reranker-demo-reader",  # the client wants one; it is never joined
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            # The embedded broker answers a fetch that found nothing only after this time.
            "fetch.wait.max.ms": 20 if services.embedded_kafka else 500,
        }
    )
    try:
        _read_from_the_end(consumer)
        yield Asking(producer, consumer, check_worker, top_k, top_n)
    except KafkaException as error:
        raise DemoError(
            f"Kafka at {services.kafka} does not answer ({error.args[0].str()}): check that it runs"
        ) from None
    finally:
        consumer.close()
        producer.purge()


def _read_from_the_end(consumer: Consumer) -> None:
    places = []
    for topic in (TOPICS.results, TOPICS.dead_letters):
        partitions = consumer.list_topics(topic, _TIMEOUT_S).topics[topic].partitions
        places += [TopicPartition(topic, number) for number in partitions]
    for place in places:
        # Looked up now: "the end" would mean the end at the first fetch, which may be too late.
        place.offset = consumer.get_watermark_offsets(place, timeout=_TIMEOUT_S)[1]
    consumer.assign(places)


def _message(polled: Message | None) -> Message | None:
    """Return a record or nothing; raises KafkaException for errors that don't pass by."""
    error = None if polled is None else polled.error()
    if error is None:
        return polled
    if error.fatal() or error.code() == KafkaError._ALL_BROKERS_DOWN:
        raise KafkaException(error)
    return None


def _ranked_list(message: Message) -> RankedList:
    if message.topic() == TOPICS.dead_letters:
        why = dict(message.headers() or []).get("dlq.error.message", b"")
        raise RefusedError(f"the worker refused the question: {why.decode(errors='replace')}")
    return RankedList.model_validate_json(message.value() or b"")
