"""Query events that cost little to answer, and the model that answers them."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.checker import Headers, Outgoing
from tests.unit.tiny_retrieval import TOPICS as WORDS
from tests.unit.tiny_retrieval import write_counting_model

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


@dataclass(frozen=True)
class Event:
    """A query event, and what it must lead to: a ranked list, or a dead letter where it is bad."""

    query_id: str
    value: bytes
    bad: bool = False
    headers: Headers = ()

    def outgoing(self) -> Outgoing:
        """Return the record to produce; the key decides on the partition."""
        return Outgoing(self.query_id.encode(), self.value, self.headers)


def tiny_model(folder: Path) -> Path:
    """Write a bundle whose model takes no time: what is tested here are not models."""
    return write_counting_model(folder, "file")


def make_events(
    count: int, seed: int, *, bad_share: float = 0.02, first: int = 0, candidates: int = 3
) -> list[Event]:
    """Return events with a few candidates each; some are bad, some have no time left."""
    return list(_events(count, random.Random(seed), bad_share, first, candidates))


def _events(
    count: int, chance: random.Random, bad_share: float, first: int, candidates: int
) -> Iterator[Event]:
    for number in range(first, first + count):
        query_id = f"q-{number}"
        if chance.random() < bad_share:
            yield Event(query_id, b'{"query_id": "%s", \xff' % query_id.encode(), bad=True)
            continue
        body: dict[str, object] = {
            "query_id": query_id,
            "query": f"{chance.choice(WORDS)} {number}",
            "candidates": [
                {"doc_id": f"d{place}", "text": f"{' '.join(chance.sample(WORDS, 4))} {number}"}
                for place in range(candidates)
            ],
        }
        if chance.random() < 0.05:
            body["deadline_ms"] = 1
        trace = (("traceparent", f"00-{TRACE_ID}-{number:016x}-01".encode()),)
        yield Event(query_id, json.dumps(body).encode(), headers=trace)


def ids(events: Sequence[Event], *, bad: bool) -> list[str]:
    """Return the query ids of the bad events, or of the others."""
    return [event.query_id for event in events if event.bad == bad]
