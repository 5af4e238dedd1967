"""An index of a few texts: the order is that of shared words, then of ids."""

from collections import deque
from collections.abc import Mapping, Sequence

from schemas.events import IndexRef
from worker.candidates import Candidate

INDEX = IndexRef(name="fake index", digest="sha256:" + "1d" * 32)


class FakeRetriever:
    """See `worker.candidates.Retriever`.

    `errors` are raised one by one, each once; `None` in them lets one call through. A query with
    the word of `chokes_on` always raises.
    """

    def __init__(self, texts: Mapping[str, str], chokes_on: str | None = None) -> None:
        self.texts = dict(texts)
        self.chokes_on = chokes_on
        self.errors: deque[Exception | None] = deque()
        self.calls: list[tuple[str, ...]] = []

    @property
    def ref(self) -> IndexRef:
        """See `Retriever`."""
        return INDEX

    def retrieve(self, queries: Sequence[str], top_k: Sequence[int]) -> list[list[Candidate]]:
        """See `Retriever`."""
        self.calls.append(tuple(queries))
        if self.errors and (error := self.errors.popleft()) is not None:
            raise error
        if self.chokes_on is not None and any(self.chokes_on in query for query in queries):
            raise RuntimeError("the index choked")
        return [self._search(query, k) for query, k in zip(queries, top_k, strict=True)]

    def _search(self, query: str, top_k: int) -> list[Candidate]:
        words = set(query.split())
        found = sorted(
            (-len(words & set(text.split())), doc_id) for doc_id, text in self.texts.items()
        )
        return [
            Candidate(doc_id, self.texts[doc_id], float(-score) / 10, rank)
            for rank, (score, doc_id) in enumerate(found[:top_k], start=1)
        ]
