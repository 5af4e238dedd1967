"""Kafka and Redis: the embedded stand-ins, or those that the user has."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from redis import Redis
from redis.exceptions import RedisError

from demo.broker import EmbeddedBroker
from demo.errors import DemoError

EMBEDDED_REDIS = "memory://"
_PARTITIONS = 3
_TIMEOUT_S = 30


@dataclass(frozen=True)
class TopicNames:
    """The demo's own topics: on a cluster with real events it touches none of them."""

    queries: str = "demo.rerank.queries"
    results: str = "demo.rerank.results"
    feedback: str = "demo.rerank.feedback"
    dead_letters: str = "demo.rerank.dead-letters"

    def all(self) -> list[str]:
        """Return all four."""
        return [getattr(self, field.name) for field in fields(self)]


TOPICS = TopicNames()


@dataclass(frozen=True)
class Services:
    """Where Kafka and Redis are."""

    kafka: str
    redis: str
    embedded_kafka: bool

    @property
    def embedded_redis(self) -> bool:
        """Whether the cache is a piece of the worker's memory."""
        return self.redis == EMBEDDED_REDIS


@contextmanager
def services(kafka: str | None, redis: str | None) -> Iterator[Services]:
    """Give running services with the demo's topics; raises DemoError."""
    if redis is not None:
        _check_redis(redis)
    if kafka is not None:
        _create_topics(kafka)
        yield Services(kafka, redis or EMBEDDED_REDIS, embedded_kafka=False)
        return
    with EmbeddedBroker() as broker:
        broker.create_topics(TOPICS.all())
        yield Services(broker.bootstrap_servers, redis or EMBEDDED_REDIS, embedded_kafka=True)


def _check_redis(url: str) -> None:
    """Ask for an answer: the worker itself would go on without its cache, and show none."""
    try:
        with Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
            client.ping()
    except (RedisError, ValueError) as error:
        raise DemoError(
            f"Redis does not answer ({error}): check --redis (make demo REDIS=redis://host:6379), "
            "or leave it out"
        ) from None


def _create_topics(servers: str) -> None:
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    try:
        there = admin.list_topics(timeout=_TIMEOUT_S).topics
        missing = [NewTopic(name, _PARTITIONS) for name in TOPICS.all() if name not in there]
        if missing:
            for created in admin.create_topics(missing, operation_timeout=_TIMEOUT_S).values():
                created.result()
    except KafkaException as error:
        raise DemoError(
            f"Kafka at {servers} can't be used ({error.args[0].str()}): check --kafka (make demo "
            "KAFKA=host:9092) and that the demo may create topics, or leave it out"
        ) from None
