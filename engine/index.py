"""Vectors to candidates: nearest documents by inner product, over all segments of an index."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.bundles import Bundle
from engine.embed import Embedder, Vectors
from engine.segments import Segment, open_segments
from schemas.manifests import IndexManifest


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
class IndexDocuments:
    """The documents that are not deleted, in the order of the corpus.

    Segment i has the positions from `starts[i]` up to `starts[i + 1]`.
    """

    segments: Sequence[Segment]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.starts[-1])

    def id(self, position: int) -> str:
        """Return the id of the document at `position`; raises IndexError."""
        segment, raw = self._find(position)
        return segment.documents.id(raw)

    def text(self, position: int) -> str:
        """Return the text of the document at `position`; raises IndexError."""
        segment, raw = self._find(position)
        return segment.documents.text(raw)

    def vectors(self, positions: NDArray[np.int64]) -> Vectors:
        """Return the vectors of documents, float32 [positions, dimension]."""
        rows = np.empty((len(positions), self.segments[0].dimension), dtype=np.float32)
        for segment, start in zip(self.segments, self.starts, strict=False):
            here = (positions >= start) & (positions < start + len(segment))
            rows[here] = segment.vectors(positions[here] - start)
        return rows

    def _find(self, position: int) -> tuple[Segment, int]:
        if not 0 <= position < len(self):
            raise IndexError(f"no entry {position} among {len(self)}")
        place = int(np.searchsorted(self.starts, position, side="right")) - 1
        segment = self.segments[place]
        local = position - int(self.starts[place])
        return segment, local if segment.raw is None else int(segment.raw[local])


@dataclass(frozen=True)
class Index:
    """Searches the documents of a bundle; safe to call from many threads."""

    segments: tuple[Segment, ...]
    documents: IndexDocuments
    lanes: ThreadPoolExecutor

    @classmethod
    def open(cls, bundle: Bundle[IndexManifest], lanes: int = 1) -> "Index":
        """Map the segments of a bundle; raises BundleError.

        `lanes` queries of one call are searched side by side.
        """
        return cls.over(open_segments(bundle), lanes)

    @classmethod
    def over(cls, segments: tuple[Segment, ...], lanes: int = 1) -> "Index":
        """Search one or more segments as one index."""
        starts = np.concatenate([[0], np.cumsum([len(segment) for segment in segments])])
        executor = ThreadPoolExecutor(lanes, thread_name_prefix="search")
        return cls(segments, IndexDocuments(segments, starts.astype(np.int64)), executor)

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
        return self.documents.vectors(np.asarray(positions, dtype=np.int64))

    def close(self) -> None:
        """End the threads, after what they are at."""
        self.lanes.shutdown()

    def _search_one(self, vector: Vectors, count: int) -> list[Hit]:
        found = [segment.nearest(vector, count) for segment in self.segments]
        starts = self.documents.starts
        scores = np.concatenate([each for each, _ in found])
        positions = np.concatenate(
            [local + start for (_, local), start in zip(found, starts, strict=False)]
        )
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
