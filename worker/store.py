"""The store behind the caches: bytes under bytes, for a while. Boundary to Redis.

A store never raises: what it cannot give is a miss, what it cannot take is dropped. So a lost
cache costs time and nothing else.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import pybreaker
import redis
import structlog
from cachetools import TLRUCache
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.errors import StartError
from worker.settings import RedisSettings

log = structlog.get_logger(__name__)

T = TypeVar("T")

# A tenth of the time to live is left to chance, so that scores that were stored together
# do not all expire together.
TTL_JITTER = 0.1
# What an entry costs beside its value, measured: its key, Python's objects, and the cache's links.
ENTRY_OVERHEAD_BYTES = 850


class Store(Protocol):
    """Bytes under bytes. Safe to call from several threads."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return a value or None for each key, in one round trip."""

    def set_many(self, items: Mapping[bytes, bytes]) -> None:
        """Keep values for about the configured time, in one round trip."""

    def close(self) -> None:
        """Let go of connections."""


class MemoryStore:
    """`memory://`: least recently used within a budget of bytes."""

    def __init__(self, budget_bytes: int, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._lock = threading.Lock()
        self._items: TLRUCache[bytes, bytes] = TLRUCache(
            maxsize=budget_bytes,
            ttu=lambda _key, _value, now: now + jittered(ttl_s),
            timer=time.monotonic,
            getsizeof=lambda value: len(value) + ENTRY_OVERHEAD_BYTES,
        )

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Store`."""
        with self._lock:
            return [self._items.get(key) for key in keys]

    def set_many(self, items: Mapping[bytes, bytes]) -> None:
        """See `Store`."""
        with self._lock:
            for key, value in items.items():
                if len(value) + ENTRY_OVERHEAD_BYTES <= self._items.maxsize:
                    self._items[key] = value

    def close(self) -> None:
        """See `Store`."""


class RedisStore:
    """Redis behind a circuit breaker.

    After some failures in a row it is left alone, then tried with one call.

    `on_failure` is called once for each round trip that Redis did not answer.
    """

    def __init__(
        self,
        client: redis.Redis,
        breaker: pybreaker.CircuitBreaker,
        ttl_s: float,
        on_failure: Callable[[], None],
    ) -> None:
        self._client = client
        self._breaker = breaker
        self._ttl_s = ttl_s
        self._on_failure = on_failure

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Store`."""
        nothing: list[bytes | None] = [None] * len(keys)
        if not keys:
            return nothing
        values: object = self._call(lambda: self._client.mget(list(keys)))
        # Something that is no Redis may answer anything, also a number of values that is another.
        if not isinstance(values, list) or len(values) != len(keys):
            return nothing
        return [_as_bytes(value) for value in values]

    def set_many(self, items: Mapping[bytes, bytes]) -> None:
        """See `Store`."""
        if not items:
            return
        pipeline = self._client.pipeline(transaction=False)
        for key, value in items.items():
            pipeline.set(key, value, px=int(jittered(self._ttl_s) * 1000))
        # Errors of single commands (out of memory, read only) fail the whole call: one log line.
        self._call(pipeline.execute)

    def available(self) -> bool:
        """Ask Redis for a sign of life; a failure is logged and counted."""
        return self._call(self._client.ping) is not None

    def close(self) -> None:
        """See `Store`."""
        self._client.close()

    def _call(self, command: Callable[[], T]) -> T | None:
        try:
            return self._breaker.call(command)
        except pybreaker.CircuitBreakerError:
            return None  # Redis failed a moment ago and is left alone for now.
        except Exception as error:  # A sick server makes the client raise more than its own.
            self._failed(error)
            return None

    def _failed(self, error: BaseException) -> None:
        self._on_failure()
        log.warning("redis did not answer; going on without", error=type(error).__name__)


def jittered(ttl_s: float) -> float:
    """Return the time less up to a tenth of it at random."""
    return ttl_s * (1 - TTL_JITTER * random.random())  # noqa: S311 - spreads load, hides nothing


def open_store(settings: RedisSettings, on_failure: Callable[[], None]) -> Store:
    """Return the store that the URL names; raises StartError for a URL of no known kind."""
    url = settings.url.get_secret_value()
    if url.startswith("memory://"):
        return MemoryStore(settings.memory_bytes, settings.ttl_s)
    try:
        client = redis.Redis.from_url(
            url,
            socket_timeout=settings.timeout_ms / 1000,
            socket_connect_timeout=settings.timeout_ms / 1000,
            retry=Retry(NoBackoff(), 0),
            decode_responses=False,
        )
    except ValueError:
        raise StartError(
            "redis.url (RERANKER_REDIS__URL) must begin with redis://, rediss://, unix:// or "
            "memory://"
        ) from None
    breaker = pybreaker.CircuitBreaker(
        fail_max=settings.failures,
        reset_timeout=settings.retry_after_ms / 1000,
        throw_new_error_on_trip=False,
    )
    store = RedisStore(client, breaker, settings.ttl_s, on_failure)
    store.available()
    return store


def _as_bytes(value: object) -> bytes | None:
    return value if isinstance(value, bytes) else None
