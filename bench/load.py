"""Query events in bursts: how many, when, and what they ask."""

import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from confluent_kafka import Producer

VOCABULARY = (
    "broker topic record partition offset consumer group leader replica segment index query "
    "document passage answer question model score token batch queue latency worker cluster node "
    "the a of and to in for with from on by after before when each every some than then"
)
TICK_S = 0.02


@dataclass(frozen=True)
class Phase:
    """So many seconds at so many query events a second."""

    seconds: float
    queries_per_s: float


def parse_trace(text: str) -> list[Phase]:
    """Return the phases of `SECONDS:QUERIES_PER_SECOND,…`; raises ValueError."""
    phases = []
    for part in text.split(","):
        seconds, _, rate = part.partition(":")
        phases.append(Phase(float(seconds), float(rate)))
    return phases


def arrivals(trace: Sequence[Phase], seed: int) -> Iterator[float]:
    """Yield the seconds at which events come: at random, as independent users would ask."""
    chance = random.Random(seed)  # noqa: S311 - a repeatable trace
    begins_s = 0.0
    for phase in trace:
        at_s = begins_s
        while phase.queries_per_s > 0:
            at_s += chance.expovariate(phase.queries_per_s)
            if at_s >= begins_s + phase.seconds:
                break
            yield at_s
        begins_s += phase.seconds


def event(number: int, candidates: int, words: int, seed: int) -> tuple[str, bytes]:
    """Return the id and value of a query event that has its own candidates, no two alike."""
    chance = random.Random(f"{seed}:{number}")  # noqa: S311 - repeatable
    vocabulary = VOCABULARY.split()
    texts = [" ".join(chance.choices(vocabulary, k=words)) for _ in range(candidates)]
    query_id = f"q-{number}"
    value = {
        "query_id": query_id,
        "query": " ".join(chance.choices(vocabulary, k=8)),
        "candidates": [{"doc_id": f"d-{place}", "text": text} for place, text in enumerate(texts)],
    }
    return query_id, json.dumps(value).encode()


class Load:
    """Produces a trace in real time, on a thread of its own."""

    def __init__(self, bootstrap: str, topic: str, times_s: Sequence[float]) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0, "linger.ms": 5})
        self._topic = topic
        self._times_s = times_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._events: Sequence[tuple[str, bytes]] = ()
        self.sent = 0

    @property
    def done(self) -> bool:
        """Whether all events were handed to the broker."""
        return self.sent == len(self._times_s) and not self._thread.is_alive()

    def start(self, events: Sequence[tuple[str, bytes]]) -> None:
        """Begin; the trace's second 0 is now."""
        self._events = events
        self._thread.start()

    def stop(self) -> None:
        """End before the trace does."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        began_s = time.monotonic()
        for at_s, (query_id, value) in zip(self._times_s, self._events, strict=True):
            while (left_s := began_s + at_s - time.monotonic()) > 0:
                if self._stop.wait(min(left_s, TICK_S)):
                    return
                self._producer.poll(0)
            self._producer.produce(self._topic, key=query_id.encode(), value=value)
            self.sent += 1
        self._producer.flush(30)
