"""Settings to Kafka clients, and one line of advice when they can't connect."""

import logging
import socket
import ssl
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import kafka
import structlog
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError
from kafka.net.sasl.oauth import AbstractTokenProvider

from worker.errors import StartError
from worker.kafka_producer import NullSerializer, Producer
from worker.kafka_records import read_any_header_name
from worker.settings import KafkaSettings

T = TypeVar("T")

log = structlog.get_logger(__name__)

# The version that the demo's embedded broker speaks; a real one is asked for its own.
EMBEDDED_API_VERSION = (2, 3)
# The client takes half a minute between tries to reconnect by default: too long after an outage.
RECONNECT_BACKOFF_MAX_MS = 2_000
RETRY_BACKOFF_MS = 20
# How long a fetch waits at the broker for data; also how late a resumed partition may be noticed.
FETCH_MAX_WAIT_MS = 100
# The topics' own limits decide (see `message_limits`); this one must only never be the lower one.
MAX_REQUEST_BYTES = 256 * 1024 * 1024
# Time in which records that are sent together become one request; a flush does not wait for it.
LINGER_MS = 5


def make_consumer(settings: KafkaSettings, fetch_bytes: int) -> Any:
    """Return a consumer that is a member of no group yet; raises StartError."""
    read_any_header_name()
    options = {
        **_common(settings),
        "allow_auto_create_topics": settings.embedded,
        "group_id": settings.group_id,
        "isolation_level": settings.isolation_level,
        "auto_offset_reset": settings.auto_offset_reset,
        "enable_auto_commit": settings.enable_auto_commit,
        "partition_assignment_strategy": [CooperativeStickyAssignor],
        "session_timeout_ms": settings.session_timeout_ms,
        "heartbeat_interval_ms": settings.session_timeout_ms // 4,
        "max_poll_interval_ms": settings.max_poll_interval_ms,
        "fetch_max_wait_ms": FETCH_MAX_WAIT_MS,
        "fetch_max_bytes": fetch_bytes,
        "max_partition_fetch_bytes": fetch_bytes,
    }
    return _connect(settings, lambda: kafka.KafkaConsumer(**options))


def make_producer(settings: KafkaSettings) -> Any:
    """Return a transactional producer, initialised; raises StartError.

    Its transactional id is its own, never shared: a producer that has lost its id to another can
    take it back (KIP-360), so fencing is left to the group's generation (KIP-447).
    """
    options = {
        **_common(settings),
        "allow_auto_create_topics": settings.embedded,
        "transactional_id": settings.transactional_id or _transactional_id(settings),
        "transaction_timeout_ms": settings.transaction_timeout_ms,
        "delivery_timeout_ms": settings.delivery_timeout_ms,
        "max_block_ms": settings.start_timeout_ms,
        "compression_type": None if settings.compression == "none" else settings.compression,
        "max_request_size": MAX_REQUEST_BYTES,
        "linger_ms": LINGER_MS,
        "acks": "all",
        "value_serializer": NullSerializer(),
    }
    producer = _connect(settings, lambda: Producer(**options))
    try:
        producer.init_transactions()
    except KafkaError as error:
        producer.close(timeout=1)
        raise StartError(
            f"kafka: transactions can't be used ({error}): check the broker and, with ACLs, that "
            "the user may Write and Describe its transactional id"
        ) from None
    return producer


def check_topics(consumer: Any, settings: KafkaSettings) -> None:
    """Raise StartError when one of the topics does not exist or can't be seen."""
    for name, topic in settings.topics.model_dump().items():
        try:
            found = consumer.partitions_for_topic(topic)
        except KafkaError as error:
            # A node that went away since the connection was made, for instance.
            raise StartError(
                f"kafka: topics can't be looked up ({error}): check that all brokers of "
                f"{settings.bootstrap_servers} run, and start again"
            ) from None
        if not found:
            raise StartError(
                f"kafka.topics.{name}: topic {topic!r} does not exist (or may not be described): "
                "create it, or set another name"
            )


def message_limits(settings: KafkaSettings) -> dict[str, int]:
    """Return `max.message.bytes` of each topic that may be described; nothing for the others."""
    if settings.embedded:
        return {}
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, topic, ["max.message.bytes"])
        for topic in settings.topics.model_dump().values()
    ]
    admin = _connect(settings, lambda: kafka.KafkaAdminClient(**_common(settings)))
    try:
        found = admin.describe_configs(resources, config_filter="all")
    except KafkaError as error:
        log.warning("limits of topics can't be read; DescribeConfigs would help", error=str(error))
        return {}
    finally:
        admin.close()
    return {
        topic: int(entries["max.message.bytes"]["value"])
        for topics in found.values()
        for topic, entries in topics.items()
        if "max.message.bytes" in entries
    }


def _common(settings: KafkaSettings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "client_id": f"kafka-reranker-{socket.gethostname()}",
        "request_timeout_ms": settings.request_timeout_ms,
        "bootstrap_timeout_ms": settings.start_timeout_ms // 2,
        "retry_backoff_ms": RETRY_BACKOFF_MS,
        "reconnect_backoff_max_ms": RECONNECT_BACKOFF_MAX_MS,
        "security_protocol": settings.security_protocol,
        **_security(settings),
    }
    if settings.embedded:
        options["api_version"] = EMBEDDED_API_VERSION
    return options


def _security(settings: KafkaSettings) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if settings.security_protocol in ("SSL", "SASL_SSL"):
        options["ssl_context"] = _ssl_context(settings)
    if settings.sasl_mechanism == "OAUTHBEARER" and settings.sasl_oauth_token_file is not None:
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_oauth_token_provider"] = FileTokenProvider(settings.sasl_oauth_token_file)
    elif settings.sasl_mechanism is not None and settings.sasl_password is not None:
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = settings.sasl_password.get_secret_value()
    return options


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    password = settings.ssl_password
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
        if settings.ssl_certfile is not None:
            context.load_cert_chain(
                settings.ssl_certfile,
                settings.ssl_keyfile,
                None if password is None else password.get_secret_value(),
            )
    except (OSError, ssl.SSLError) as error:
        raise StartError(
            f"kafka.ssl_cafile, ssl_certfile or ssl_keyfile can't be read: {error}"
        ) from None
    return context


class FileTokenProvider(AbstractTokenProvider):  # type: ignore[misc]
    """Reads the bearer token for each connection, so that a renewed one is used."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def token(self) -> str:
        """Return the token."""
        return self._path.read_text().strip()


def _transactional_id(settings: KafkaSettings) -> str:
    return f"{settings.group_id}.{socket.gethostname()}.{uuid.uuid4().hex[:12]}"


def _connect(settings: KafkaSettings, make: Callable[[], T]) -> T:
    """Make a client; say in one line what went wrong, which the client says in its log only."""
    with _reasons() as reasons:
        try:
            return make()
        except (KafkaError, ValueError, OSError) as error:
            why = _most_telling(reasons) or str(error)
    raise StartError(
        f"kafka.bootstrap_servers (RERANKER_KAFKA__BOOTSTRAP_SERVERS) "
        f"{settings.bootstrap_servers}: can't connect: {why}. Check the address, that the broker "
        "runs, and security_protocol and credentials"
    )


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def _reasons() -> Iterator[list[str]]:
    logger, collector = logging.getLogger("kafka"), _Collector()
    logger.addHandler(collector)
    # What every try says would bury the one line that says what to do.
    logger.propagate = logger.isEnabledFor(logging.DEBUG)
    try:
        yield collector.messages
    finally:
        logger.propagate = True
        logger.removeHandler(collector)


def _most_telling(messages: list[str]) -> str | None:
    """Return the reason of a failed connection; one that names a cause before one that does not."""
    failed = [message.split("failed: ", 1)[1] for message in messages if "failed: " in message]
    telling = [
        reason for reason in failed if any(word in reason for word in ("Sasl", "SSL", "DNS"))
    ]
    reasons = telling or failed
    return reasons[-1].split(" (backoff")[0] if reasons else None
