"""A segment of an index: some documents and a memory-mapped FAISS index of their vectors.

Segments never change. A deleted document stays in its segment, and a bitmap hides it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.bundles import Bundle
from engine.documents import Documents
from engine.embed import Vectors
from engine.errors import BundleError
from schemas.manifests import IndexManifest, IndexSegment

FAISS_FILE = "index.faiss"
# float32 [documents, dimension], for an index type that keeps something smaller than vectors.
VECTORS_FILE = "vectors.f32"
# One bit for each document, the first in the lowest bit of the first byte: 1 is deleted.
DELETED_FILE = "deleted.bits"

# Its annotations leave out what its Python layer adds.
_faiss: Any = faiss

# How many nodes of the graph a search keeps in sight, unless the manifest says otherwise.
EF_SEARCH = 256
# How many lists of an `ivfpq` index a search reads, and how many times the wanted number of
# documents it compares by their whole vectors, unless the manifest says otherwise.
NPROBE = 128
RESCORE = 8

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Segment:
    """Searches one part of an index; safe to call from many threads.

    Positions count the documents that are not deleted. `raw` maps them to places in the files;
    None where nothing is deleted and both are the same.
    """

    faiss_index: Any
    index_type: str
    options: Mapping[str, int]
    documents: Documents
    whole_vectors: Vectors | None = None
    raw: Positions | None = None
    selector: Any = None

    def __len__(self) -> int:
        return len(self.documents) if self.raw is None else len(self.raw)

    @property
    def dimension(self) -> int:
        """How many numbers a vector has."""
        return int(self.faiss_index.d)

    def raw_positions(self, positions: Positions) -> Positions:
        """Return where in the files the documents at `positions` are."""
        return positions if self.raw is None else self.raw[positions]

    def vectors(self, positions: Positions) -> Vectors:
        """Return the vectors of documents as they were embedded, float32 [n, dimension]."""
        rows = self.raw_positions(positions)
        if len(rows) == 0:
            return np.empty((0, self.dimension), dtype=np.float32)
        if self.whole_vectors is not None:
            return np.asarray(self.whole_vectors[rows], dtype=np.float32)
        return np.asarray(self.faiss_index.reconstruct_batch(rows), dtype=np.float32)

    def nearest(self, vector: Vectors, count: int) -> tuple[Vectors, Positions]:
        """Return inner products with `vector`, float32 [dimension], and positions, unordered.

        The `count` best are among them. Scores of all index types are the same bit for bit, so
        those of several segments can be compared.
        """
        count = min(count, len(self))
        if count < 1:
            return np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64)
        # The setting belongs to the calling thread; it would else start one team a lane.
        faiss.omp_set_num_threads(1)
        if self.whole_vectors is None:
            scores, rows = self._exact_scores(vector, count)
        else:
            scores, rows = self._rescored(vector, count, self.whole_vectors)
        return scores, rows if self.raw is None else np.searchsorted(self.raw, rows)

    def _exact_scores(self, vector: Vectors, count: int) -> tuple[Vectors, Positions]:
        """Search an index whose scores are those of whole vectors.

        FAISS doesn't say which of equal scores it leaves out. So, where the last one found ties
        with the last one wanted, there may be more of them, and more are asked for.
        """
        parameters = self._parameters()
        asked = min(count + 1, len(self))
        while True:
            scores, rows = self._search(vector, asked, parameters)
            if len(scores) < asked or asked == len(self) or scores[-1] < scores[count - 1]:
                return scores, rows
            asked = min(asked * 2, len(self))

    def _rescored(self, vector: Vectors, count: int, whole: Vectors) -> tuple[Vectors, Positions]:
        """Search by compressed vectors for more than asked, and compare those by whole ones.

        More lists are read where the nearest ones don't hold enough.
        """
        asked = min(count * self.options.get("rescore", RESCORE), len(self))
        probes = self.options.get("nprobe", NPROBE)
        while True:
            _, rows = self._search(vector, asked, self._parameters(probes))
            if len(rows) >= count or probes >= self.faiss_index.nlist:
                return _inner_products(vector, whole, rows), rows
            probes *= 4

    def _search(self, vector: Vectors, count: int, parameters: Any) -> tuple[Vectors, Positions]:
        scores, rows = self.faiss_index.search(vector[None, :], count, params=parameters)
        found = rows[0] >= 0
        return scores[0][found], rows[0][found]

    def _parameters(self, probes: int = 0) -> Any:
        if self.index_type == "ivfpq":
            nprobe = min(probes, self.faiss_index.nlist)
            return _faiss.SearchParametersIVF(sel=self.selector, nprobe=nprobe)
        if self.index_type == "hnsw":
            ef_search = self.options.get("efSearch", EF_SEARCH)
            return _faiss.SearchParametersHNSW(sel=self.selector, efSearch=ef_search)
        return _faiss.SearchParameters(sel=self.selector)


def parts(manifest: IndexManifest) -> tuple[tuple[str, IndexSegment], ...]:
    """Return the segments of a manifest, each with what its file names begin with."""
    if manifest.segments:
        return tuple((f"{each.folder}/", each) for each in manifest.segments)
    whole = IndexSegment(
        folder="all",
        documents=manifest.documents,
        index_type=manifest.index_type,
        search=manifest.search,
    )
    return (("", whole),)


def open_segments(bundle: Bundle[IndexManifest]) -> tuple[Segment, ...]:
    """Map all segments of a bundle; raises BundleError where one isn't what the manifest says."""
    segments = tuple(_open(bundle, prefix, part) for prefix, part in parts(bundle.manifest))
    if sum(map(len, segments)) != bundle.manifest.documents:
        raise BundleError(
            f"{bundle.path}: its segments do not hold {bundle.manifest.documents} documents"
        )
    return segments


def _open(bundle: Bundle[IndexManifest], prefix: str, part: IndexSegment) -> Segment:
    dimension = bundle.manifest.embedder.dimension
    if part.index_type not in ("flat", "hnsw", "ivfpq"):
        raise BundleError(f"index type {part.index_type!r} needs a newer version of this program")
    documents = Documents.open(bundle, prefix, part.documents)
    faiss_index = read_faiss(bundle.file(prefix + FAISS_FILE))
    if (faiss_index.ntotal, faiss_index.d) != (part.documents, dimension):
        raise BundleError(f"{bundle.path}: {prefix}{FAISS_FILE} is not the index of its documents")
    whole = None
    if part.index_type == "ivfpq":
        whole = map_vectors(bundle.file(prefix + VECTORS_FILE), dimension)
        if len(whole) != part.documents:
            raise BundleError(f"{bundle.path}: {prefix}{VECTORS_FILE} is not of its documents")
    segment = Segment(faiss_index, part.index_type, part.search, documents, whole)
    return segment if not part.deleted else without(segment, _read_deleted(bundle, prefix, part))


def without(segment: Segment, deleted: NDArray[np.bool_]) -> Segment:
    """Return the segment with the documents hidden for which `deleted`, [documents], is true."""
    living = np.packbits(~deleted, bitorder="little")
    return Segment(
        segment.faiss_index,
        segment.index_type,
        segment.options,
        segment.documents,
        segment.whole_vectors,
        raw=np.flatnonzero(~deleted),
        selector=_faiss.IDSelectorBitmap(living),
    )


def read_faiss(path: Path) -> Any:
    """Map a FAISS index; raises BundleError.

    This flag maps vectors, graphs and inverted lists alike; the older IO_FLAG_MMAP copies the
    vectors of flat and HNSW indexes into the memory of each process.
    """
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise BundleError(f"{path} is not a FAISS index: {str(error).splitlines()[0]}") from None


def map_vectors(path: Path, dimension: int) -> Vectors:
    """Map a file of vectors, float32 [n, dimension]; raises BundleError."""
    size = path.stat().st_size
    if size % (4 * dimension):
        raise BundleError(f"{path} does not hold vectors of {dimension} numbers")
    if size == 0:  # the system maps no empty file
        return np.empty((0, dimension), dtype=np.float32)
    flat = np.memmap(path, dtype=np.dtype("<f4"), mode="r")
    return flat.reshape(-1, dimension)


def _read_deleted(
    bundle: Bundle[IndexManifest], prefix: str, part: IndexSegment
) -> NDArray[np.bool_]:
    path = bundle.file(prefix + DELETED_FILE)
    packed = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    if len(packed) != -(-part.documents // 8):
        raise BundleError(f"{path} does not fit {part.documents} documents")
    deleted = np.unpackbits(packed, count=part.documents, bitorder="little").astype(np.bool_)
    if int(deleted.sum()) != part.deleted:
        raise BundleError(f"{path} does not mark {part.deleted} documents")
    return deleted


def _inner_products(vector: Vectors, whole: Vectors, rows: Positions) -> Vectors:
    """Return the inner products of `vector` with some rows, as the other index types compute."""
    scores = np.empty(len(rows), dtype=np.float32)
    query = np.ascontiguousarray(vector, dtype=np.float32)
    _faiss.fvec_inner_products_by_idx(
        _faiss.swig_ptr(scores),
        _faiss.swig_ptr(query),
        _faiss.swig_ptr(whole),
        _faiss.swig_ptr(rows),
        len(query),
        1,
        len(rows),
    )
    return scores
