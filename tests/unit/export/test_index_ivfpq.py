"""A bundle whose index holds compressed vectors, and the whole ones in a file beside it."""

import json
from pathlib import Path

import pytest

from engine.bundles import Bundle, open_index
from engine.errors import BundleError
from engine.index import Index, Retriever
from engine.segments import VECTORS_FILE
from export.index_merge import MergePolicy
from export.index_update import Changes, update_index
from schemas.manifests import IndexManifest, IndexSegment
from tests.unit.tiny_retrieval import TOPICS, BuildIndex

MANY = [
    {"_id": f"d{n}", "text": " ".join(TOPICS[n // 8**k % 8] for k in range(1 + n % 4))}
    for n in range(1_200)
]
QUERIES = ["fox dog", "read a file", "topic partition record"]


@pytest.fixture(scope="module")
def compressed(build_tiny_index: BuildIndex) -> Bundle[IndexManifest]:
    return build_tiny_index(MANY, index_type="ivfpq")


def found(bundle: Bundle[IndexManifest]) -> list[list[tuple[str, float]]]:
    retriever = Retriever.open(bundle)
    hits = [[(hit.doc_id, hit.score) for hit in row] for row in retriever.retrieve(QUERIES, 100)]
    retriever.close()
    return hits


def test_it_finds_what_a_flat_index_finds(
    compressed: Bundle[IndexManifest], build_tiny_index: BuildIndex
) -> None:
    flat = found(build_tiny_index(MANY))

    for ours, exact in zip(found(compressed), flat, strict=True):
        scores = [score for _, score in exact]
        assert len(set(ours) & set(exact)) >= 90
        assert [score for _, score in ours][:50] == scores[:50]


def test_the_same_corpus_gives_the_same_bundle(
    compressed: Bundle[IndexManifest], build_tiny_index: BuildIndex
) -> None:
    assert build_tiny_index(MANY, index_type="ivfpq").digest == compressed.digest


def test_segments_are_made_from_the_whole_vectors(
    tmp_path: Path, compressed: Bundle[IndexManifest], build_tiny_index: BuildIndex
) -> None:
    """Deleting half of it gives what a fresh index of the others gives, bit for bit."""
    ids = tmp_path / "ids"
    ids.write_text("".join(f"d{n}\n" for n in range(600)))

    shrunk = open_index(update_index(compressed.path, tmp_path / "out", Changes(delete=ids)))

    assert (shrunk.manifest.index_type, shrunk.manifest.documents) == ("flat", 600)
    assert not (shrunk.path / VECTORS_FILE).exists()
    assert shrunk.digest == build_tiny_index(MANY[600:]).digest


def test_segments_of_different_types_are_searched_together(
    tmp_path: Path, compressed: Bundle[IndexManifest], build_tiny_index: BuildIndex
) -> None:
    add, ids = tmp_path / "add.jsonl", tmp_path / "ids"
    more = [{"_id": f"e{n}", "text": MANY[n]["text"]} for n in range(40)]
    add.write_text("".join(json.dumps(each) + "\n" for each in more))
    ids.write_text("".join(f"d{n}\n" for n in range(0, 1_200, 10)))
    changes = Changes(add=add, delete=ids, policy=MergePolicy(floor=0))

    bundle = open_index(update_index(compressed.path, tmp_path / "out", changes))

    assert bundle.manifest.index_type == "ivfpq+flat"
    living = [each for n, each in enumerate(MANY) if n % 10] + more
    for ours, exact in zip(found(bundle), found(build_tiny_index(living)), strict=True):
        assert len(set(ours) & set(exact)) >= 90


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"documents": 1_199}, "not 1199"),
        ({"index_type": "other"}, "newer version"),
        ({"folder": "segments/0009"}, "has no file"),
        ({"deleted": 3}, r"has no file '.*deleted.bits'"),
    ],
)
def test_a_manifest_of_other_segments_is_refused(
    tmp_path: Path, compressed: Bundle[IndexManifest], part: dict[str, object], message: str
) -> None:
    add = tmp_path / "add.jsonl"
    add.write_text('{"_id": "new", "text": "fox"}\n')
    changes = Changes(add=add, policy=MergePolicy(floor=0))
    bundle = open_index(update_index(compressed.path, tmp_path / "out", changes))
    first, second = bundle.manifest.segments
    wrong: IndexSegment = first.model_copy(update=part)
    manifest = bundle.manifest.model_copy(update={"segments": (wrong, second)})

    with pytest.raises(BundleError, match=message):
        Index.open(Bundle(bundle.path, bundle.digest, manifest))
