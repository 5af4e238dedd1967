"""Candidates of a test collection's queries, and their order after reranking."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from engine.fusion import fuse
from engine.index import Hit, Retriever
from engine.score import ScoredPair, Scorer
from export.bars import progress
from export.corpus import Collection, CorpusError
from schemas.manifests import Fusion

CandidateSource = Literal["retrieved", "judged"]
Candidates = dict[str, list[Hit]]

# Queries that are retrieved, and pairs that are at least scored, in one go: enough of them that
# most lengths fill a batch.
QUERIES_AT_ONCE = 256
PAIRS_AT_ONCE = 1_024


@dataclass
class Reranked:
    """Document ids of each query, best first, and what happened on the way."""

    rankings: dict[str, list[str]] = field(default_factory=dict)
    scored_pairs: int = 0
    scored_passages: int = 0
    truncated_pairs: int = 0
    failed_pairs: int = 0
    too_long_queries: int = 0


def find_candidates(
    retriever: Retriever, collection: Collection, source: CandidateSource, top_k: int
) -> Candidates:
    """Return the candidates of each judged query, in the retriever's order.

    These are the `top_k` best documents, or all that the query was judged with. Raises CorpusError
    where the index holds none of the judged documents: it is another corpus's.
    """
    positions = _positions(retriever, collection)
    query_ids = list(collection.judgements)
    candidates: Candidates = {}
    with progress("retrieving", len(query_ids)) as advance:
        for start in range(0, len(query_ids), QUERIES_AT_ONCE):
            chunk = query_ids[start : start + QUERIES_AT_ONCE]
            texts = [collection.queries[query_id] for query_id in chunk]
            if source == "retrieved":
                found = retriever.retrieve(texts, top_k)
            else:
                judged = [
                    [
                        positions[doc_id]
                        for doc_id in collection.judgements[query_id]
                        if doc_id in positions
                    ]
                    for query_id in chunk
                ]
                found = _order(retriever, texts, judged)
            candidates.update(zip(chunk, found, strict=True))
            advance(len(chunk))
    return candidates


def rerank(
    scorer: Scorer,
    queries: dict[str, str],
    candidates: Candidates,
    fusion: Fusion | None = None,
) -> Reranked:
    """Return the candidates by the model's logit, best first; ties as retrieved.

    With `fusion` by the evidence of logit and retrieval score, as the worker does.

    A query that is too long for the model keeps its order, as do pairs that can't be scored, after
    the others.
    """
    result = Reranked()
    with progress("reranking", sum(map(len, candidates.values()))) as advance:
        for chunk in _chunks(candidates):
            readable = [query_id for query_id in chunk if scorer.encoder.fits(queries[query_id])]
            pairs = [(queries[key], hit.text) for key in readable for hit in candidates[key]]
            scores = iter(scorer.score(pairs))
            for query_id in chunk:
                hits = candidates[query_id]
                if query_id in readable:
                    scored = [next(scores) for _ in hits]
                    _count(result, scored)
                    hits = _sort(hits, scored, fusion)
                else:
                    result.too_long_queries += 1
                result.rankings[query_id] = [hit.doc_id for hit in hits]
                advance(len(hits))
    return result


def _positions(retriever: Retriever, collection: Collection) -> dict[str, int]:
    """Return the places in the index of all judged documents that it holds."""
    judged = {doc_id for grades in collection.judgements.values() for doc_id in grades}
    documents = retriever.index.documents
    ids = ((documents.id(position), position) for position in range(len(documents)))
    positions = {doc_id: position for doc_id, position in ids if doc_id in judged}
    if not positions:
        raise CorpusError(f"the index holds no document that {collection.name} judges")
    return positions


def _order(
    retriever: Retriever, queries: Sequence[str], judged: Sequence[Sequence[int]]
) -> list[list[Hit]]:
    """Return the documents at the positions of each query, as the retriever orders them."""
    vectors = retriever.embedder.embed_queries(queries)
    documents = retriever.index.documents
    found = []
    for vector, places in zip(vectors, judged, strict=True):
        positions = np.asarray(places, dtype=np.int64)
        scores = (retriever.index.vectors(positions) * vector).sum(axis=1)
        order = np.lexsort((positions, -scores))
        found.append(
            [
                Hit(
                    documents.id(int(positions[place])),
                    documents.text(int(positions[place])),
                    float(scores[place]),
                    rank,
                )
                for rank, place in enumerate(order, start=1)
            ]
        )
    return found


def _chunks(candidates: Candidates) -> Iterator[list[str]]:
    """Give the ids of some queries at a time, that together have PAIRS_AT_ONCE or a few more."""
    chunk: list[str] = []
    pairs = 0
    for query_id, hits in candidates.items():
        chunk.append(query_id)
        pairs += len(hits)
        if pairs >= PAIRS_AT_ONCE:
            yield chunk
            chunk, pairs = [], 0
    if chunk:
        yield chunk


def _sort(hits: Sequence[Hit], scored: Sequence[ScoredPair], fusion: Fusion | None) -> list[Hit]:
    logits = [-math.inf if math.isnan(pair.logit) else pair.logit for pair in scored]
    if fusion is not None:
        scores = [None if math.isnan(hit.score) else hit.score for hit in hits]
        logits = fuse(fusion, logits, scores, [hit.text for hit in hits])
    order = sorted(range(len(hits)), key=lambda place: (-logits[place], hits[place].rank))
    return [hits[place] for place in order]


def _count(result: Reranked, scored: Sequence[ScoredPair]) -> None:
    result.scored_pairs += len(scored)
    result.scored_passages += sum(pair.passages for pair in scored)
    result.truncated_pairs += sum(pair.truncated for pair in scored)
    result.failed_pairs += sum(math.isnan(pair.logit) for pair in scored)
