"""The candidates of a query: those that it brought, or those that the index finds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from schemas.events import Candidate as InlineCandidate
from schemas.events import IndexRef
from worker.decode import Query
from worker.errors import BadRecordError, TransientError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document to be ranked; `retrieval_rank` begins with 1."""

    doc_id: str
    text: str
    retrieval_score: float | None
    retrieval_rank: int


class Retriever(Protocol):
    """Finds candidates for queries: the boundary to an index."""

    @property
    def ref(self) -> IndexRef:
        """Name and digest of the index, as results carry them."""

    def retrieve(self, queries: Sequence[str], top_k: Sequence[int]) -> list[list[Candidate]]:
        """Return for each query its `top_k` candidates, best first; raises TransientError."""


def inline(candidates: Sequence[InlineCandidate]) -> list[Candidate]:
    """Return the event's own candidates; their order is the retrieval order."""
    return [
        Candidate(candidate.doc_id, candidate.text, candidate.score, rank)
        for rank, candidate in enumerate(candidates, start=1)
    ]


def find(retriever: Retriever, queries: Sequence[Query]) -> list[list[Candidate] | BadRecordError]:
    """Return the candidates of each query; one that the retriever chokes on fails alone.

    Raises TransientError when the index is away.
    """
    events = [query.event for query in queries]
    try:
        return [
            *retriever.retrieve([event.query for event in events], [each.top_k for each in events])
        ]
    except TransientError:
        raise
    except Exception as error:
        if len(queries) > 1:
            return [found for query in queries for found in find(retriever, [query])]
        log.exception("retrieval failed for a query")
        return [BadRecordError(f"candidates could not be retrieved: {type(error).__name__}")]
