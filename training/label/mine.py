"""Ranks and scores of the retriever, and hard negatives: what it finds and nobody judged.

What the retriever scores nearly as high as a known positive may well be one that nobody saw. Such
documents are left out, by the share of the positive's score (as in Moreira et al., "NV-Retriever:
Improving text embedding models with effective hard-negative mining", 2024).
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.bundles import open_index
from engine.index import Hit, Retriever
from training.label_rows import LabelRow
from training.plan_data import MinePlan
from training.seeds import seeded

_QUERIES_PER_CALL = 64
POSITIVE = 0.5  # labels from here on are positives

Query = tuple[str, str]  # key, text


class Finder(Protocol):
    """What mining needs of a retriever."""

    def retrieve(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """Return the best documents of each query, best first."""
        ...

    def similarity(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the retriever's score of each text."""
        ...


class BundleFinder:
    """The retriever of an index bundle."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever

    def retrieve(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """See `Finder`."""
        return self._retriever.retrieve(queries, top_k)

    def similarity(self, query: str, texts: Sequence[str]) -> list[float]:
        """See `Finder`."""
        vector: NDArray[np.float32] = self._retriever.embedder.embed_queries([query])[0]
        found = self._retriever.embedder.embed_documents(texts) @ vector
        return [float(score) for score in found]

    def texts(self, doc_ids: set[str]) -> dict[str, str]:
        """Return id → text of the documents that the index has."""
        documents = self._retriever.index.documents
        found: dict[str, str] = {}
        for place in range(len(documents) if doc_ids else 0):
            doc_id = documents.id(place)
            if doc_id in doc_ids:
                found[doc_id] = documents.text(place)
        return found


def open_finder(path: Path) -> "closing[_ClosingFinder]":
    """Open the retriever of a bundle; raises BundleError. A context manager."""
    return closing(_ClosingFinder(Retriever.open(open_index(path), os.cpu_count() or 1)))


class _ClosingFinder(BundleFinder):
    def close(self) -> None:
        """End the retriever's threads."""
        self._retriever.close()


def retrieved(
    finder: Finder, queries: Sequence[Query], top_k: int, advance: Callable[[int], None]
) -> Iterator[tuple[str, list[Hit]]]:
    """Give the hits of each query, in order."""
    for start in range(0, len(queries), _QUERIES_PER_CALL):
        some = queries[start : start + _QUERIES_PER_CALL]
        found = finder.retrieve([text for _, text in some], top_k)
        yield from zip([key for key, _ in some], found, strict=True)
        advance(len(some))


def mine(
    rows: Sequence[LabelRow], hits: Sequence[Hit], finder: Finder, plan: MinePlan, seed: int
) -> list[LabelRow]:
    """Return negatives for one query, whose labelled rows are given; [] without a positive."""
    positives = [row for row in rows if row.label >= POSITIVE]
    if not positives or plan.per_query == 0:
        return []
    limit = plan.max_share_of_positive * _best_score(positives, hits, finder)
    known_ids = {row.doc_id for row in rows}
    known_texts = {row.text for row in rows}
    eligible = [
        hit
        for hit in hits
        if plan.from_rank <= hit.rank <= plan.to_rank
        and hit.score < limit
        and hit.doc_id not in known_ids
        and hit.text not in known_texts
        and hit.text.strip()
    ]
    rng = seeded(seed, positives[0].query_id)
    chosen = rng.sample(eligible, min(plan.per_query, len(eligible)))
    return [_negative(rows[0], hit, plan.weight) for hit in sorted(chosen, key=lambda h: h.rank)]


def _best_score(positives: Sequence[LabelRow], hits: Sequence[Hit], finder: Finder) -> float:
    scores: Mapping[str, float] = {hit.doc_id: hit.score for hit in hits}
    found = [scores[row.doc_id] for row in positives if row.doc_id in scores]
    return max(
        found or finder.similarity(positives[0].query, [row.text for row in positives]),
    )


def _negative(row: LabelRow, hit: Hit, weight: float) -> LabelRow:
    return LabelRow(
        query_id=row.query_id,
        query=row.query,
        tenant=row.tenant,
        doc_id=hit.doc_id,
        text=hit.text,
        label=0.0,
        weight=weight,
        split=row.split,
        source="mined",
        retrieval_rank=hit.rank,
        retrieval_score=hit.score,
    )
