"""Held-out queries: their candidates as retrieved, and what is known to be right."""

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.bundles import Bundle, open_index
from engine.index import Hit, Retriever
from export.corpus import open_collection
from export.index import build_index, processors
from export.reranking import Candidates, find_candidates
from schemas.manifests import IndexManifest
from training.finetune.errors import LabelsError
from training.finetune.labels import LabelledQuery, relevances, rights

Grades = dict[str, dict[str, int]]


@dataclass(frozen=True)
class HeldOut:
    """Queries by id, each with its tenant, candidates and judgements, graded and yes or no.

    `index` is where the candidates' scores come from; None where that isn't known, and then
    scores are never fused with logits.
    """

    name: str
    queries: dict[str, str]
    tenants: dict[str, str]
    candidates: Candidates
    graded: Grades
    binary: Grades
    index: IndexManifest | None


def from_labels(test: list[LabelledQuery], index_bundle: Path | None, top_k: int) -> HeldOut:
    """Return the split `test`: its documents are its candidates; raises LabelsError."""
    useful = [query for query in (each.known() for each in test) if query.teaches]
    if not useful:
        raise LabelsError(
            "no query of the split test has a document that is better than another: there is "
            "nothing to measure by; give test a larger share, or name gate.held_out"
        )
    index = open_index(index_bundle).manifest if index_bundle else None
    return HeldOut(
        name="labels, split test",
        queries={query.query_id: query.query for query in useful},
        tenants={query.query_id: query.tenant for query in useful if query.tenant},
        candidates={query.query_id: _hits(query, top_k) for query in useful},
        graded={query.query_id: relevances(query) for query in useful},
        binary={query.query_id: rights(query) for query in useful},
        index=index,
    )


def from_folder(folder: Path, index_bundle: Path | None, top_k: int) -> HeldOut:
    """Return a BEIR folder's judged queries, retrieved; raises CorpusError, BundleError."""
    collection = open_collection(folder)
    with _index_of(collection.corpus, index_bundle) as index:
        retriever = Retriever.open(index, processors())
        candidates = find_candidates(retriever, collection, "retrieved", top_k)
        retriever.close()
    judged = collection.judgements
    return HeldOut(
        name=collection.name,
        queries={query_id: collection.queries[query_id] for query_id in judged},
        tenants={},
        candidates=candidates,
        graded=judged,
        binary={
            query_id: {doc_id: int(grade > 0) for doc_id, grade in grades.items()}
            for query_id, grades in judged.items()
        },
        index=index.manifest,
    )


def _hits(query: LabelledQuery, top_k: int) -> list[Hit]:
    """The documents in their order; a score that nobody knows is NaN, and its list is not fused."""
    return [
        Hit(
            document.doc_id,
            document.text,
            math.nan if document.retrieval_score is None else document.retrieval_score,
            rank,
        )
        for rank, document in enumerate(query.documents[:top_k], start=1)
    ]


@contextmanager
def _index_of(corpus: Path, bundle: Path | None) -> Iterator[Bundle[IndexManifest]]:
    if bundle is not None:
        yield open_index(bundle)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield open_index(build_index(corpus, Path(folder) / "index"))
