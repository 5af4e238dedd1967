import numpy as np
import pytest

from engine.bundles import Bundle
from engine.embed import Embedder, Vectors
from engine.errors import BundleError
from engine.index import Index, Retriever
from schemas.manifests import IndexManifest
from tests.unit.tiny_retrieval import DOCUMENTS, BuildIndex


def brute_force(vectors: Vectors, query: Vectors, top_k: int) -> list[int]:
    """Return positions by score; of equal ones, told apart by no more than rounding, the first."""
    scores = np.round(vectors @ query, 6)
    return [int(place) for place in np.lexsort((np.arange(len(vectors)), -scores))[:top_k]]


@pytest.fixture(scope="module", params=["flat", "hnsw"])
def bundle(request: pytest.FixtureRequest, build_tiny_index: BuildIndex) -> Bundle[IndexManifest]:
    return build_tiny_index(DOCUMENTS, index_type=request.param)


@pytest.fixture(scope="module")
def queries(bundle: Bundle[IndexManifest]) -> Vectors:
    embedder = Embedder.open(bundle)
    vectors = embedder.embed_queries(["fox dog", "read a file", "", "topic partition record"] * 6)
    embedder.close()
    return vectors


@pytest.mark.parametrize("top_k", [1, 7, 59, 60, 200])
def test_search_equals_brute_force(
    bundle: Bundle[IndexManifest], queries: Vectors, top_k: int
) -> None:
    index = Index.open(bundle, lanes=2)
    vectors = index.vectors(range(len(DOCUMENTS)))

    results = index.search(queries, top_k)

    for query, hits in zip(queries, results, strict=True):
        expected = brute_force(vectors, query, top_k)
        assert [hit.doc_id for hit in hits] == [f"d{position}" for position in expected]
        assert [hit.text for hit in hits] == [DOCUMENTS[position]["text"] for position in expected]
        assert [hit.rank for hit in hits] == list(range(1, len(expected) + 1))
        assert [hit.score for hit in hits] == pytest.approx(vectors[expected] @ query, abs=1e-6)


def test_a_query_finds_the_same_alone_and_among_others(
    bundle: Bundle[IndexManifest], queries: Vectors
) -> None:
    index = Index.open(bundle, lanes=2)

    together = index.search(queries, 20)

    assert [index.search(query[None], 20)[0] for query in queries] == together


def test_the_type_is_that_of_the_manifest(bundle: Bundle[IndexManifest]) -> None:
    index = Index.open(bundle)
    expected = {"flat": "IndexFlatIP", "hnsw": "IndexHNSWFlat"}

    assert type(index.segments[0].faiss_index).__name__ == expected[bundle.manifest.index_type]


def test_equal_scores_come_in_the_order_of_the_corpus(build_tiny_index: BuildIndex) -> None:
    texts = ["fox", "dog", "fox", "line", "fox", "fox"]
    retriever = Retriever.open(
        build_tiny_index([{"_id": f"d{n}", "text": text} for n, text in enumerate(texts * 30)])
    )
    foxes = [f"d{n}" for n, text in enumerate(texts * 30) if text == "fox"]
    best = retriever.retrieve(["fox"], 120)[0]
    assert {hit.doc_id for hit in best} == set(foxes)

    for top_k in (1, 2, 3, 50, 110, 120):
        hits = retriever.retrieve(["fox"], top_k)[0]
        assert [hit.doc_id for hit in hits] == foxes[:top_k]
        assert len({hit.score for hit in hits}) == 1


def test_an_empty_index_finds_nothing(build_tiny_index: BuildIndex) -> None:
    retriever = Retriever.open(build_tiny_index([]))

    assert len(retriever.index) == 0
    assert retriever.retrieve(["fox", "dog"], 10) == [[], []]


def test_no_queries_and_no_places(tiny_index: Bundle[IndexManifest]) -> None:
    retriever = Retriever.open(tiny_index)

    assert retriever.retrieve([], 10) == []
    assert retriever.retrieve(["fox"], 0) == [[]]
    retriever.close()


def test_an_unknown_index_type_is_refused(tiny_index: Bundle[IndexManifest]) -> None:
    manifest = tiny_index.manifest.model_copy(update={"index_type": "other"})

    with pytest.raises(BundleError, match="newer version"):
        Index.open(Bundle(tiny_index.path, tiny_index.digest, manifest))


def test_an_index_of_other_documents_is_refused(
    tiny_index: Bundle[IndexManifest], build_tiny_index: BuildIndex
) -> None:
    other = build_tiny_index(DOCUMENTS[:3])
    mixed = Bundle(other.path, other.digest, tiny_index.manifest)

    with pytest.raises(BundleError):
        Index.open(mixed)
