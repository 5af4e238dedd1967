"""Vectors to candidates: nearest documents by inner product, from a memory-mapped FAISS index."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.bundles import Bundle
from engine.documents import Documents
from engine.embed import Embedder, Vectors
from engine.errors import BundleError
from schemas.manifests import IndexManifest

FAISS_FILE = "index.faiss"

# How many nodes of the graph a search keeps in sight, unless the manifest says otherwise.
EF_SEARCH = 256


@dataclass(frozen=True)
class Hit:
    """A candidate. `score` is the inner product, the cosine where the embedder normalises.

    `rank` 1 is best.
    """

    doc_id: str
    text: str
    score: float
    rank: int


@dataclass(frozen=True)
class Index:
    """Searches the documents of a bundle; safe to call from many threads."""

    faiss_index: Any
    search_parameters: Any
    documents: Documents
    lanes: ThreadPoolExecutor

    @classmethod
    def open(cls, bundle: Bundle[IndexManifest], lanes: int = 1) -> "Index":
        """Map the index and the documents of a bundle; raises BundleError.

        `lanes` queries of one call are searched side by side.
        """
        documents = Documents.open(bundle)
        faiss_index = _read(bundle)
        manifest = bundle.manifest
        if (faiss_index.ntotal, faiss_index.d) != (len(documents), manifest.embedder.dimension):
            raise BundleError(f"{bundle.path}: {FAISS_FILE} is not the index of its documents")
        executor = ThreadPoolExecutor(lanes, thread_name_prefix="search")
        return cls(faiss_index, _parameters(manifest), documents, executor)

    def __len__(self) -> int:
        return len(self.documents)

    def search(self, vectors: Vectors, top_k: int) -> list[list[Hit]]:
        """Return for each row of `vectors`, float32 [n, dimension], its `top_k` best, best first.

        Fewer where the index holds fewer. Equal scores come in the order of the corpus.
        """
        count = min(top_k, len(self))
        if count < 1:
            return [[] for _ in vectors]
        return list(self.lanes.map(lambda vector: self._search_one(vector, count), vectors))

    def vectors(self, positions: Sequence[int] | NDArray[np.int64]) -> Vectors:
        """Return the vectors of documents, float32 [positions, dimension]."""
        if len(positions) == 0:
            return np.empty((0, self.faiss_index.d), dtype=np.float32)
        rows = self.faiss_index.reconstruct_batch(np.asarray(positions, dtype=np.int64))
        return np.asarray(rows, dtype=np.float32)

    def close(self) -> None:
        """End the threads, after what they are at."""
        self.lanes.shutdown()

    def _search_one(self, vector: Vectors, count: int) -> list[Hit]:
        scores, positions = self._nearest(vector, count)
        order = np.lexsort((positions, -scores))[:count]
        return [
            Hit(
                doc_id=self.documents.id(int(positions[place])),
                text=self.documents.text(int(positions[place])),
                score=float(scores[place]),
                rank=rank,
            )
            for rank, place in enumerate(order, start=1)
        ]

    def _nearest(self, vector: Vectors, count: int) -> tuple[Vectors, NDArray[np.int64]]:
        """Return scores and positions, unordered, of all that are as good as the `count` best.

        FAISS doesn't say which of equal scores it leaves out. So, where the last one found ties
        with the last one wanted, there may be more of them, and more are asked for.
        """
        # The setting belongs to the calling thread; it would else start one team a lane.
        faiss.omp_set_num_threads(1)
        asked = min(count + 1, len(self))
        while True:
            scores, positions = self.faiss_index.search(
                vector[None, :], asked, params=self.search_parameters
            )
            found = positions[0] >= 0
            scores, positions = scores[0][found], positions[0][found]
            if len(scores) < asked or asked == len(self) or scores[-1] < scores[count - 1]:
                return scores, positions
            asked = min(asked * 2, len(self))


@dataclass(frozen=True)
class Retriever:
    """Queries to candidates: the embedder and the index of one bundle."""

    embedder: Embedder
    index: Index

    @classmethod
    def open(cls, bundle: Bundle[IndexManifest], lanes: int = 1) -> "Retriever":
        """Open an index bundle; raises BundleError."""
        return cls(Embedder.open(bundle, lanes), Index.open(bundle, lanes))

    def retrieve(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """Return the `top_k` best documents of each query, best first."""
        return self.index.search(self.embedder.embed_queries(queries), top_k)

    def close(self) -> None:
        """End the threads of both."""
        self.embedder.close()
        self.index.close()


def _read(bundle: Bundle[IndexManifest]) -> Any:
    path = bundle.file(FAISS_FILE)
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise BundleError(f"{path} is not a FAISS index: {str(error).splitlines()[0]}") from None


def _parameters(manifest: IndexManifest) -> Any:
    if manifest.index_type == "flat":
        return None
    if manifest.index_type == "hnsw":
        return faiss.SearchParametersHNSW(  # type: ignore[attr-defined]
            efSearch=manifest.search.get("efSearch", EF_SEARCH)
        )
    raise BundleError(f"index type {manifest.index_type!r} needs a newer version of this program")
