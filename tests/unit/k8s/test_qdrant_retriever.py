"""The retriever over Qdrant, against the client's own in-memory mode and a closed port."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

pytest.importorskip("qdrant_client")

from qdrant_client import QdrantClient
from qdrant_client.models import Distance, PointStruct, VectorParams

from engine.bundles import Bundle, open_model
from engine.embed import Embedder, Vectors
from engine.index import Retriever
from schemas.manifests import Fusion, IndexManifest
from tests.fakes.store import FakeStore
from tests.services.process import free_ports
from tests.unit.tiny_retrieval import DOCUMENTS, write_counting_model
from worker.build import Bundles, build_engine
from worker.candidates import Candidate
from worker.errors import StartError, TransientError
from worker.index_retriever import IndexRetriever
from worker.qdrant_retriever import QdrantRetriever, check_collection, open_qdrant, reference
from worker.settings import QdrantSettings, Settings

SETTINGS = QdrantSettings(url="http://localhost:6333", collection="docs")
WORDS = ("file", "line", "dog")


class CountingEmbedder:
    """One dimension for each of three words."""

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        rows = [[text.split().count(word) for word in WORDS] for text in texts]
        return np.asarray(rows, dtype=np.float32)


def point(number: int, text: str | None, doc_id: str | None = None) -> PointStruct:
    vector = CountingEmbedder().embed_queries([text or "dog"])[0].tolist()
    payload = {"doc_id": doc_id, "text": text, "other": "not asked for"}
    return PointStruct(
        id=number, vector=vector, payload={k: v for k, v in payload.items() if v is not None}
    )


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    client = QdrantClient(":memory:")
    client.create_collection("docs", vectors_config=VectorParams(size=3, distance=Distance.DOT))
    client.upsert(
        "docs",
        [
            point(1, "file file line", "a"),
            point(2, "file", "b"),
            point(3, "line line"),
            point(4, None, "no text"),
        ],
    )
    yield client
    client.close()


@pytest.fixture
def retriever(client: QdrantClient) -> QdrantRetriever:
    ref = reference(SETTINGS, "sha256:0")
    return QdrantRetriever(client, CountingEmbedder(), SETTINGS, ref, Distance.DOT)


def test_each_query_gets_its_own_best_first(retriever: QdrantRetriever) -> None:
    first, second = retriever.retrieve(["file", "line"], [2, 1])
    assert first == [
        Candidate("a", "file file line", 2.0, 1),
        Candidate("b", "file", 1.0, 2),
    ]
    # Without the payload field, the point's own id names the document.
    assert second == [Candidate("3", "line line", 2.0, 1)]


def test_equal_scores_come_in_the_order_of_ids(
    client: QdrantClient, retriever: QdrantRetriever
) -> None:
    client.upsert("docs", [point(9, "dog", "z"), point(10, "dog", "m")])
    found = retriever.retrieve(["dog"], [3])
    assert [each.doc_id for each in found[0]] == ["m", "z"]
    assert [each.retrieval_rank for each in found[0]] == [1, 2]


def test_a_query_gets_the_same_alone_and_in_a_batch(retriever: QdrantRetriever) -> None:
    queries = ["file line", "dog file", "line", "nothing"]
    batched = retriever.retrieve(queries, [3, 2, 4, 1])
    alone = [
        retriever.retrieve([query], [count])[0]
        for query, count in zip(queries, [3, 2, 4, 1], strict=True)
    ]
    assert batched == alone


def test_a_collection_that_goes_away_is_transient(
    client: QdrantClient, retriever: QdrantRetriever
) -> None:
    remote = QdrantClient(
        url=f"http://127.0.0.1:{free_ports(1)[0]}", timeout=1, check_compatibility=False
    )
    away = replace(retriever, client=remote)
    with pytest.raises(TransientError, match="Qdrant does not answer"):
        away.retrieve(["file"], [1])
    remote.close()


@pytest.mark.parametrize(
    ("settings", "dimension", "says"),
    [
        (SETTINGS, 4, "vectors of 3 numbers"),
        (QdrantSettings(collection="none"), 3, "can't be read"),
        (QdrantSettings(collection="docs", vector="dense"), 3, "RERANKER_QDRANT__VECTOR"),
        (QdrantSettings(collection="named"), 3, "RERANKER_QDRANT__VECTOR"),
        (QdrantSettings(collection="euclid"), 3, "use Cosine or Dot"),
    ],
)
def test_a_collection_that_does_not_fit_is_refused(
    client: QdrantClient, settings: QdrantSettings, dimension: int, says: str
) -> None:
    size = VectorParams(size=3, distance=Distance.DOT)
    client.create_collection("named", vectors_config={"dense": size})
    client.create_collection("euclid", VectorParams(size=3, distance=Distance.EUCLID))
    assert check_collection(client, SETTINGS, 3) == Distance.DOT
    assert check_collection(client, QdrantSettings(collection="named", vector="dense"), 3)
    with pytest.raises(StartError, match=says):
        check_collection(client, settings, dimension)


@pytest.mark.parametrize(
    ("distance", "normalize", "fused"),
    [(Distance.COSINE, True, True), (Distance.COSINE, False, False), (Distance.DOT, True, False)],
)
def test_a_fusion_is_for_cosines_of_normalised_vectors(
    retriever: QdrantRetriever,
    tiny_index: Bundle[IndexManifest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    distance: Distance,
    normalize: bool,
    fused: bool,
) -> None:
    """With any other collection the model ranks alone, and the log says so."""
    embedder = tiny_index.manifest.embedder.model_copy(update={"normalize": normalize})
    manifest = tiny_index.manifest.model_copy(update={"embedder": embedder})
    fusion = Fusion(
        logit_scale=1.0, retrieval_weight=1.0, bias=0.0, embedder=embedder.source.digest
    )
    model = open_model(write_counting_model(tmp_path, "fox"))
    learnt = replace(model, manifest=model.manifest.model_copy(update={"fusion": fusion}))
    bundles = Bundles(learnt, replace(tiny_index, manifest=manifest))
    found = replace(retriever, distance=distance)
    monkeypatch.setattr("worker.qdrant_retriever.open_qdrant", lambda *_: found)
    with capture_logs() as logs:
        engine = build_engine(Settings(qdrant=SETTINGS), bundles, FakeStore())
    engine.lanes.close()
    assert engine.reranker.retriever is found
    assert engine.reranker.fusion == (fusion if fused else None)
    assert ["not fused" in line["event"] for line in logs] == ([] if fused else [True])


def test_the_reference_names_model_and_collection() -> None:
    ref = reference(SETTINGS, "sha256:0")
    other = QdrantSettings(url="http://elsewhere:6333", collection="docs")
    assert ref.name == "docs"
    assert ref == reference(other, "sha256:0")
    assert ref.digest != reference(SETTINGS, "sha256:1").digest


def test_start_says_that_nothing_is_there(tiny_index: Bundle[IndexManifest]) -> None:
    settings = QdrantSettings(url=f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(StartError, match="RERANKER_QDRANT__COLLECTION"):
        open_qdrant(settings, tiny_index, lanes=1)


def test_it_finds_what_the_index_bundle_finds(tiny_index: Bundle[IndexManifest]) -> None:
    """The same documents, embedded by the same model, in Qdrant and in FAISS."""
    engine = Retriever.open(tiny_index)
    client = QdrantClient(":memory:")
    dimension = tiny_index.manifest.embedder.dimension
    client.create_collection("docs", VectorParams(size=dimension, distance=Distance.DOT))
    texts = [str(document["text"]) for document in DOCUMENTS]
    vectors = engine.embedder.embed_documents(texts)
    client.upsert(
        "docs",
        [
            PointStruct(
                id=number,
                vector=vector.tolist(),
                payload={"doc_id": DOCUMENTS[number]["_id"], "text": texts[number]},
            )
            for number, vector in enumerate(vectors)
        ],
    )
    embedder = Embedder.open(tiny_index)
    ref = reference(SETTINGS, tiny_index.digest)
    ours = QdrantRetriever(client, embedder, SETTINGS, ref, Distance.DOT)
    theirs = IndexRetriever(engine, ours.ref)
    queries = ["read a file", "fox dog"]
    for found, expected in zip(
        ours.retrieve(queries, [60, 60]), theirs.retrieve(queries, [60, 60]), strict=True
    ):
        scores = {each.doc_id: each.retrieval_score for each in expected}
        assert {each.doc_id for each in found} == set(scores)
        assert [each.retrieval_score for each in found] == pytest.approx(
            [scores[each.doc_id] for each in found], abs=1e-4
        )
    embedder.close()
    engine.close()
    client.close()
