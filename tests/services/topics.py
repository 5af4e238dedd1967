"""A fresh set of the system's four topics for one test."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from tests.services.kafka import KafkaCluster


@dataclass(frozen=True)
class Topics:
    """Names that no other test uses, and a consumer group of the same kind."""

    queries: str
    results: str
    feedback: str
    dead_letters: str
    group_id: str

    def __iter__(self) -> Iterator[str]:
        return iter((self.queries, self.results, self.feedback, self.dead_letters))


def create_topics(
    cluster: KafkaCluster,
    queries: int = 1,
    results: int = 1,
    feedback: int = 1,
    dead_letters: int = 1,
) -> Topics:
    """Creates the four topics with these numbers of partitions."""
    prefix = f"t{uuid.uuid4().hex[:10]}"
    topics = Topics(
        queries=f"{prefix}.rerank.queries",
        results=f"{prefix}.rerank.results",
        feedback=f"{prefix}.rerank.feedback",
        dead_letters=f"{prefix}.rerank.dead-letters",
        group_id=f"{prefix}.workers",
    )
    counts = (queries, results, feedback, dead_letters)
    cluster.create_topics(dict(zip(topics, counts, strict=True)))
    return topics
