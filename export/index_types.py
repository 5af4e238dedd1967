"""Vectors to a FAISS index: which type for how many documents, and how each is made.

Vectors come from a memory-mapped file and are added a block at a time. What an index of each type
keeps in memory while it is made is all that grows with the number of documents.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from engine.embed import Vectors
from engine.segments import EF_SEARCH, NPROBE, RESCORE
from export.bars import progress
from export.errors import ExportError

INDEX_TYPES = ("flat", "hnsw", "ivfpq")

# Up to here comparing with every vector takes a few milliseconds a query and is exact.
HNSW_FROM_DOCUMENTS = 50_000
# Here the graph of an HNSW index takes three minutes on its one thread, where IVF-PQ takes twenty
# seconds on two, and for a million documents it takes all of 1.8 GB (docs/bundles.md).
IVFPQ_FROM_DOCUMENTS = 250_000
# With fewer there is too little to learn the 256 codes of each part from.
IVFPQ_LEAST_DOCUMENTS = 1_000

HNSW_LINKS = 32
HNSW_EF_CONSTRUCTION = 200

# Four numbers of a vector become one byte.
PQ_NUMBERS_PER_BYTE = 4
PQ_TRAINING_PER_CODE = 64
LIST_TRAINING_VECTORS = 48
TRAINING_ROUNDS = 10
SEED = 1234

BLOCK_DOCUMENTS = 16_384
# Adding to a graph is slow: more often a bar that moves.
HNSW_BLOCK_DOCUMENTS = 2_048


@dataclass(frozen=True)
class Choice:
    """The type of an index, and how it is searched."""

    index_type: str
    search: dict[str, int]

    @property
    def keeps_vectors_aside(self) -> bool:
        """Tell whether the vectors are not in the index itself, and belong in a file beside it."""
        return self.index_type == "ivfpq"


def choose(documents: int, wanted: str | None = None) -> Choice:
    """Return the type for so many documents: the `wanted` one, or by size.

    Raises ExportError where there are too few for the wanted type.
    """
    if wanted == "ivfpq" and documents < IVFPQ_LEAST_DOCUMENTS:
        raise ExportError(
            f"ivfpq needs {IVFPQ_LEAST_DOCUMENTS:,} documents, and here are {documents:,}: "
            "leave out --index-type, or choose flat"
        )
    if wanted is None:
        wanted = "hnsw" if documents >= HNSW_FROM_DOCUMENTS else "flat"
        wanted = "ivfpq" if documents >= IVFPQ_FROM_DOCUMENTS else wanted
    search = {"hnsw": {"efSearch": EF_SEARCH}, "ivfpq": {"nprobe": NPROBE, "rescore": RESCORE}}
    return Choice(wanted, search.get(wanted, {}))


def bytes_needed(choice: Choice, documents: int, dimension: int) -> int:
    """Return about how much disk the vectors and the index of a type take while it is made."""
    vectors = 4 * dimension * documents
    if choice.index_type == "ivfpq":
        return vectors + documents * (dimension // PQ_NUMBERS_PER_BYTE + 8)
    graph = documents * HNSW_LINKS * 2 * 4 if choice.index_type == "hnsw" else 0
    return 2 * vectors + graph


def write_index(choice: Choice, vectors: Vectors, path: Path, threads: int) -> None:
    """Write an index of `vectors`, float32 [documents, dimension]; raises ExportError.

    `threads` work on an `ivfpq` index. The others get one: the graph of an HNSW index would
    differ from run to run.
    """
    index = _new(choice, vectors, threads)
    faiss.omp_set_num_threads(threads if choice.index_type == "ivfpq" else 1)
    with progress(f"indexing documents, {choice.index_type}", len(vectors)) as advance:
        for block in _blocks(
            vectors, BLOCK_DOCUMENTS if choice.index_type != "hnsw" else HNSW_BLOCK_DOCUMENTS
        ):
            index.add(block)
            advance(len(block))
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:
        reason = str(error).splitlines()[0].rpartition("(")[2].rstrip(")")
        raise ExportError(
            f"the index can't be written beside the bundle ({reason}): free some space there, or "
            "choose another --out; nothing was written"
        ) from None


def _new(choice: Choice, vectors: Vectors, threads: int) -> Any:
    dimension = vectors.shape[1]
    if choice.index_type == "flat":
        return faiss.IndexFlatIP(dimension)
    if choice.index_type == "hnsw":
        index = faiss.IndexHNSWFlat(dimension, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = HNSW_EF_CONSTRUCTION
        return index
    return _trained_ivfpq(vectors, threads)


def _trained_ivfpq(vectors: Vectors, threads: int) -> Any:
    """Return an index whose lists and codes were learnt from a sample."""
    documents, dimension = vectors.shape
    lists = lists_for(documents)
    quantizer = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFPQ(
        quantizer, dimension, lists, _bytes_per_vector(dimension), 8, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.niter = index.pq.cp.niter = TRAINING_ROUNDS
    index.cp.seed = index.pq.cp.seed = SEED
    # Silences warnings: how many there are is decided here.
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
    index.cp.max_points_per_centroid = LIST_TRAINING_VECTORS
    index.pq.cp.max_points_per_centroid = PQ_TRAINING_PER_CODE
    faiss.omp_set_num_threads(threads)
    with progress(f"training {lists:,} lists"):
        index.train(_sample(vectors, lists * LIST_TRAINING_VECTORS))
    return index


def lists_for(documents: int) -> int:
    """Return the power of two that is nearest to four times the root of their number."""
    return int(2 ** round(math.log2(4 * math.sqrt(documents))))


def _bytes_per_vector(dimension: int) -> int:
    """Return the largest number of equal parts that are not smaller than wanted."""
    most = max(1, dimension // PQ_NUMBERS_PER_BYTE)
    return next(count for count in range(most, 0, -1) if dimension % count == 0)


def _sample(vectors: Vectors, count: int) -> Vectors:
    """Return at least as many vectors as the codes need, drawn evenly, in the order of the file."""
    count = min(len(vectors), max(count, 256 * PQ_TRAINING_PER_CODE))
    chosen = np.random.default_rng(SEED).choice(len(vectors), count, replace=False, shuffle=False)
    return np.asarray(vectors[np.sort(chosen)], dtype=np.float32)


def _blocks(vectors: Vectors, size: int) -> Iterator[Vectors]:
    for start in range(0, len(vectors), size):
        yield np.ascontiguousarray(vectors[start : start + size])
