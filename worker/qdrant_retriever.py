"""The retriever over a Qdrant collection, for a corpus that is too large for one machine.

Queries are embedded here, with the embedding model of the index bundle, so the collection's vectors
must come from the same model. Needs the extra [qdrant].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException
from qdrant_client.models import Distance, QueryRequest, ScoredPoint

from engine.bundles import Bundle
from engine.embed import Embedder, Vectors
from schemas.events import IndexRef
from schemas.manifests import IndexManifest, digest_of
from worker.candidates import Candidate
from worker.errors import StartError, TransientError
from worker.settings import QdrantSettings

log = structlog.get_logger(__name__)

# Larger is better with these, as everywhere else in this system.
DISTANCES = {Distance.COSINE, Distance.DOT}


class QueryEmbedder(Protocol):
    """What is needed of `engine.embed.Embedder`."""

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return float32 [texts, dimension]."""


@dataclass(frozen=True)
class QdrantRetriever:
    """See `worker.candidates.Retriever`."""

    client: QdrantClient
    embedder: QueryEmbedder
    settings: QdrantSettings
    ref: IndexRef
    distance: Distance

    def scores_like(self, index: IndexManifest) -> bool:
        """Tell whether its scores are on the scale of those that the index itself would give.

        The index gives inner products. Cosines are the same where the embedding model normalises;
        inner products with vectors that somebody else has stored may have any length in them.
        """
        return self.distance is Distance.COSINE and index.embedder.normalize

    def retrieve(self, queries: Sequence[str], top_k: Sequence[int]) -> list[list[Candidate]]:
        """Embed all queries as one batch, and search for all of them in one round trip.

        Raises TransientError whatever Qdrant answers but points: no query is to blame for it.
        """
        vectors = self.embedder.embed_queries(queries)
        requests = [
            QueryRequest(
                query=vector.tolist(),
                using=self.settings.vector,
                limit=count,
                with_payload=[self.settings.id_field, self.settings.text_field],
            )
            for vector, count in zip(vectors, top_k, strict=True)
        ]
        try:
            answers = self.client.query_batch_points(self.settings.collection, requests)
        except (ApiException, QdrantException, OSError) as error:
            raise TransientError(f"Qdrant does not answer: {_reason(error)}") from None
        return [self._candidates(answer.points) for answer in answers]

    def _candidates(self, points: Sequence[ScoredPoint]) -> list[Candidate]:
        """Best first; equal scores in the order of ids, as Qdrant's own order may change."""
        found = [(-point.score, self._doc_id(point), self._text(point)) for point in points]
        kept = sorted((score, doc_id, text) for score, doc_id, text in found if text is not None)
        return [
            Candidate(doc_id, text, -score, rank)
            for rank, (score, doc_id, text) in enumerate(kept, start=1)
        ]

    def _doc_id(self, point: ScoredPoint) -> str:
        value = (point.payload or {}).get(self.settings.id_field)
        return str(point.id if value in (None, "") else value)

    def _text(self, point: ScoredPoint) -> str | None:
        value = (point.payload or {}).get(self.settings.text_field)
        if isinstance(value, str):
            return value
        log.warning("a point has no text", point=point.id, field=self.settings.text_field)
        return None


def open_qdrant(
    settings: QdrantSettings, bundle: Bundle[IndexManifest], lanes: int
) -> QdrantRetriever:
    """Connect, and check that the collection fits the embedding model; raises StartError."""
    key = settings.api_key.get_secret_value() if settings.api_key else None
    try:
        client = QdrantClient(
            url=settings.url,
            api_key=key,
            timeout=max(1, round(settings.timeout_ms / 1000)),
            check_compatibility=False,  # It warns where the check below says what to do.
        )
    except (ValueError, QdrantException) as error:
        raise StartError(f"qdrant.url (RERANKER_QDRANT__URL): {_reason(error)}") from None
    distance = check_collection(client, settings, bundle.manifest.embedder.dimension)
    return QdrantRetriever(
        client=client,
        embedder=Embedder.open(bundle, lanes),
        settings=settings,
        ref=reference(settings, bundle.digest),
        distance=distance,
    )


def reference(settings: QdrantSettings, embedder_digest: str) -> IndexRef:
    """Return how results name the collection.

    The digest covers the embedding model and the collection's name, not the documents: they change
    while the worker runs, which is why whole rankings of them are not cached.
    """
    named = {"collection": settings.collection, "vector": settings.vector}
    return IndexRef(
        name=settings.collection, digest=digest_of({"qdrant": named, "embedder": embedder_digest})
    )


def check_collection(client: QdrantClient, settings: QdrantSettings, dimension: int) -> Distance:
    """Return what it compares by; raise StartError where it is away or holds other vectors."""
    where = f"qdrant.collection (RERANKER_QDRANT__COLLECTION) {settings.collection!r}"
    try:
        vectors: Any = client.get_collection(settings.collection).config.params.vectors
    except (ApiException, QdrantException, OSError, ValueError) as error:
        raise StartError(f"{where} can't be read: {_reason(error)}") from None
    if isinstance(vectors, dict):
        vectors = vectors.get(settings.vector or "")
    elif settings.vector is not None:
        vectors = None
    if vectors is None:
        raise StartError(
            f"{where} has no vector {settings.vector!r}: set qdrant.vector "
            "(RERANKER_QDRANT__VECTOR)"
        )
    if vectors.size != dimension:
        raise StartError(
            f"{where} has vectors of {vectors.size} numbers, and the index bundle's embedding "
            f"model makes {dimension}: both must come from one model"
        )
    if vectors.distance not in DISTANCES:
        raise StartError(f"{where} compares by {vectors.distance.value}: use Cosine or Dot")
    return Distance(vectors.distance)


def _reason(error: Exception) -> str:
    """Return the error's first line, or its class where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
