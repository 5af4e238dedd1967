"""Ranked lists to be shown."""

from collections.abc import Sequence

from demo.asking import Answered
from schemas.events import CacheCounts, ModelRef, RankedDocument, RankedList, Timings


def answered(
    question: str, order: Sequence[int], *, hits: int = 0, latency_s: float = 0.1
) -> Answered:
    """An answer whose document of retrieval rank `order[i]` has rank i + 1."""
    ranking = tuple(
        RankedDocument(
            doc_id=f"module.function_{before}",
            rank=after,
            score=-float(after),
            relevance=0.5,
            retrieval_rank=before,
            retrieval_score=None,
            truncated=False,
        )
        for after, before in enumerate(order, start=1)
    )
    ranked = RankedList(
        query_id="q",
        ranking=ranking,
        tier="full",
        model=ModelRef(name="m", digest="sha256:0", precision="int8"),
        index=None,
        cache=CacheCounts(hits=hits, misses=len(order) - hits),
        timings_ms=Timings(queue=0.0, retrieve=0.0, score=0.0, total=0.0),
    )
    return Answered(question, ranked, latency_s)
