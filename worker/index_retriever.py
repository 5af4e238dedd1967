"""The retriever over an index bundle: embedding and FAISS search in this process."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.index import Hit
from engine.index import Retriever as Engine
from schemas.events import IndexRef
from worker.candidates import Candidate


@dataclass(frozen=True)
class IndexRetriever:
    """See `worker.candidates.Retriever`."""

    engine: Engine
    ref: IndexRef

    def retrieve(self, queries: Sequence[str], top_k: Sequence[int]) -> list[list[Candidate]]:
        """Embed all queries as one batch, and search each for exactly its `top_k`.

        An approximate search for more could give another order, so what else is in the batch must
        not change the number.
        """
        vectors = self.engine.embedder.embed_queries(queries)
        found: list[list[Candidate]] = [[] for _ in queries]
        for count in sorted(set(top_k)):
            rows = np.flatnonzero(np.asarray(top_k) == count)
            for row, hits in zip(rows, self.engine.index.search(vectors[rows], count), strict=True):
                found[row] = [_candidate(hit) for hit in hits]
        return found


def _candidate(hit: Hit) -> Candidate:
    return Candidate(hit.doc_id, hit.text, hit.score, hit.rank)
