"""How far a run has come: counts committed answers while they come."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, TopicPartition

from tests.services.topics import Topics

STALL_S = 240.0


class Stalled(Exception):  # noqa: N818 - it says what happened
    """Nothing was answered for four minutes. The message ends with the workers' logs."""


class Progress:
    """Counts the records of results and dead letters on a thread; a context manager."""

    def __init__(self, bootstrap: str, topics: Topics) -> None:
        self._bootstrap = bootstrap
        self._topics = (topics.results, topics.dead_letters)
        self._changed = threading.Condition()
        self._count = 0
        self._moved_at_s = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def count(self) -> int:
        """Committed answers and dead letters so far."""
        with self._changed:
            return self._count

    def await_count(self, count: int, describe: Callable[[], str] = lambda: "") -> None:
        """Return once so many are there.

        Raises:
            Stalled: none came for four minutes.
        """
        with self._changed:
            self._moved_at_s = time.monotonic()
            while self._count < count:
                self._changed.wait(1.0)
                if time.monotonic() - self._moved_at_s > STALL_S:
                    raise Stalled(f"{self._count} of {count} for {STALL_S:.0f} s\n{describe()}")

    def _watch(self) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": "chaos-progress",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 20,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )
        places = [
            TopicPartition(topic, number, 0)
            for topic in self._topics
            for number in consumer.list_topics(topic, timeout=120).topics[topic].partitions
        ]
        consumer.assign(places)
        while not self._stop.is_set():
            found = [one for one in consumer.consume(500, timeout=0.1) if one.error() is None]
            if found:
                with self._changed:
                    self._count += len(found)
                    self._moved_at_s = time.monotonic()
                    self._changed.notify_all()
        consumer.close()
