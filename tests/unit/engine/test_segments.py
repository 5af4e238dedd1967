"""Segments of each type: recall, deleted documents, and memory shared by processes."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from engine.documents import Documents, DocumentsWriter
from engine.embed import Vectors
from engine.index import Index
from engine.segments import FAISS_FILE, VECTORS_FILE, Segment, map_vectors, read_faiss, without
from export.errors import ExportError
from export.index_segment import append_vectors, finish
from export.index_types import choose, lists_for

DIMENSION = 64
DOCUMENTS = 3_000
TYPES = ["flat", "hnsw", "ivfpq"]


@dataclass(frozen=True)
class Made:
    folder: Path
    segment: Segment
    vectors: Vectors
    queries: Vectors


def clustered(count: int, seed: int) -> Vectors:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(1).standard_normal((30, DIMENSION))
    own = rng.standard_normal((count, DIMENSION)) / np.sqrt(np.arange(1, DIMENSION + 1))
    vectors = centres[rng.integers(30, size=count)] + 2 * own
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture(scope="module", params=TYPES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp(request.param)
    vectors = clustered(DOCUMENTS, 2)
    vectors[1::1000] = vectors[0]
    with DocumentsWriter(folder) as writer:
        for number in range(DOCUMENTS):
            writer.append(f"d{number}", "")
    with (folder / VECTORS_FILE).open("wb") as file:
        append_vectors(file, vectors)
    choice = finish(folder, DOCUMENTS, DIMENSION, request.param, threads=1)
    whole = map_vectors(folder / VECTORS_FILE, DIMENSION) if request.param == "ivfpq" else None
    segment = Segment(
        read_faiss(folder / FAISS_FILE),
        request.param,
        choice.search,
        Documents.load(folder),
        whole,
    )
    return Made(folder, segment, vectors, clustered(50, 3))


def recall(made: Made, segment: Segment, living: np.ndarray) -> float:
    """Return the share of the 100 nearest living documents that are found, of all queries."""
    index, hits = Index.over((segment,)), 0
    for row, found in zip(made.queries, index.search(made.queries, 100), strict=True):
        nearest = living[np.argsort(-(made.vectors[living] @ row))[:100]]
        hits += len({f"d{place}" for place in nearest} & {hit.doc_id for hit in found})
    index.close()
    return hits / (100 * len(made.queries))


def test_the_nearest_documents_are_found(made: Made) -> None:
    assert recall(made, made.segment, np.arange(DOCUMENTS)) >= 0.99


def test_deleted_documents_are_never_found_and_cost_the_others_nothing(made: Made) -> None:
    deleted = np.random.default_rng(4).random(DOCUMENTS) < 0.2
    segment = without(made.segment, deleted)

    assert recall(made, segment, np.flatnonzero(~deleted)) >= 0.99
    index = Index.over((segment,))
    everything = index.search(made.queries[:3], DOCUMENTS)
    gone = {f"d{place}" for place in np.flatnonzero(deleted)}
    assert all(gone.isdisjoint(hit.doc_id for hit in hits) for hits in everything)
    assert len(index) == DOCUMENTS - deleted.sum()


def test_scores_are_those_of_whole_vectors_whatever_the_type(made: Made, tmp_path: Path) -> None:
    """Bit for bit, or equal documents of two segments would not be in the order of the corpus."""
    with (tmp_path / VECTORS_FILE).open("wb") as file:
        append_vectors(file, made.vectors)
    with DocumentsWriter(tmp_path):
        pass
    finish(tmp_path, DOCUMENTS, DIMENSION, "flat", threads=1)
    flat = read_faiss(tmp_path / FAISS_FILE)

    for row in made.queries[:10]:
        scores, positions = made.segment.nearest(row, 100)
        exact, order = flat.search(row[None], DOCUMENTS)
        by_position = dict(zip(order[0].tolist(), exact[0].tolist(), strict=True))
        assert [by_position[place] for place in positions.tolist()] == scores.tolist()


def test_vectors_come_back_as_they_were(made: Made) -> None:
    places = np.array([5, 0, DOCUMENTS - 1])
    deleted = np.zeros(DOCUMENTS, dtype=np.bool_)
    deleted[0] = True

    assert np.array_equal(made.segment.vectors(places), made.vectors[places])
    moved = without(made.segment, deleted)
    assert np.array_equal(moved.vectors(np.array([4, 0])), made.vectors[[5, 1]])


def test_equal_vectors_come_in_the_order_of_the_corpus_over_segments(made: Made) -> None:
    index = Index.over((made.segment, made.segment))
    hits = index.search(made.vectors[:1], 8)[0]

    assert [hit.doc_id for hit in hits] == ["d0", "d1", "d1001", "d2001"] * 2


def test_the_same_vectors_give_the_same_file(made: Made, tmp_path: Path) -> None:
    with (tmp_path / VECTORS_FILE).open("wb") as file:
        append_vectors(file, made.vectors)

    finish(tmp_path, DOCUMENTS, DIMENSION, made.segment.index_type, threads=1)

    assert (tmp_path / FAISS_FILE).read_bytes() == (made.folder / FAISS_FILE).read_bytes()


# Opens and searches the index, says how much memory its mapping takes, and waits.
SEARCHER = """
import sys, numpy as np
from pathlib import Path
from engine.segments import read_faiss
index = read_faiss(Path(sys.argv[1]))
if hasattr(index, "nprobe"):
    index.nprobe = index.nlist
for row in np.random.default_rng(0).standard_normal((200, index.d)).astype(np.float32):
    index.search(row[None], 100)
print("searched", flush=True)
for _ in sys.stdin:
    fields, inside = {"Rss": 0, "Pss": 0, "Anonymous": 0}, False
    for line in open("/proc/self/smaps"):
        if "-" in line.split(" ", 1)[0]:
            inside = line.rstrip().endswith(sys.argv[1])
        elif inside and line.split(":")[0] in fields:
            fields[line.split(":")[0]] += int(line.split()[1])
    print(fields["Rss"], fields["Pss"], fields["Anonymous"], flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's /proc")
def test_two_processes_share_the_memory_of_one_index(made: Made) -> None:
    file = (made.folder / FAISS_FILE).resolve()
    command = [sys.executable, "-c", SEARCHER, str(file)]
    searchers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for searcher in searchers:
        assert searcher.stdout is not None
        assert searcher.stdout.readline() == "searched\n"
    answers = []
    for searcher in searchers:
        assert searcher.stdin is not None
        assert searcher.stdout is not None
        searcher.stdin.write("measure\n")
        searcher.stdin.flush()
        answers.append([int(word) for word in searcher.stdout.readline().split()])
    for searcher in searchers:
        searcher.communicate()

    size = file.stat().st_size / 1024
    for resident, share, own in answers:
        assert resident > 0.5 * size
        assert own == 0
        assert share < 0.6 * resident


@pytest.mark.parametrize(
    ("documents", "index_type"),
    [(0, "flat"), (49_999, "flat"), (50_000, "hnsw"), (249_999, "hnsw"), (250_000, "ivfpq")],
)
def test_the_type_goes_by_the_number_of_documents(documents: int, index_type: str) -> None:
    assert choose(documents).index_type == index_type


def test_too_few_documents_for_a_type_is_said() -> None:
    with pytest.raises(ExportError, match="ivfpq needs 1,000 documents, and here are 999"):
        choose(999, "ivfpq")
    assert choose(1_000_000, "flat").index_type == "flat"


@pytest.mark.parametrize(("documents", "lists"), [(250_000, 2048), (1_000_000, 4096)])
def test_lists(documents: int, lists: int) -> None:
    assert lists_for(documents) == lists
