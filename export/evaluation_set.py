"""The judged queries by which a quantized model is let through, or not.

Without a collection of the user's own they come from the docstrings of Python's standard library:
the first paragraph asks, and of texts that share its words only its own is the answer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from export.calibration import (
    BUILT_IN,
    CalibrationPairs,
    Pair,
    load_pairs,
    questions_and_texts,
    split,
    spread,
)
from export.corpus import Collection, open_collection, read_corpus
from export.errors import ExportError
from export.lexical import Lexicon

MAX_QUERIES = 100
_BUILT_IN_DOCUMENTS = 8
_BUILT_IN_CHARACTERS = 320
_DOCUMENTS = 20
_MOST_JUDGED = 50
_MOST_TEXTS = 20_000


@dataclass(frozen=True)
class JudgedQuery:
    """A query, its candidates, and their grades; the better ones last, so that ties cost."""

    query: str
    documents: tuple[str, ...]
    grades: tuple[int, ...]

    @classmethod
    def of(cls, query: str, graded: Sequence[tuple[str, int]]) -> "JudgedQuery":
        """Put candidates in order."""
        ordered = sorted(graded, key=lambda pair: pair[1])
        return cls(query, tuple(text for text, _ in ordered), tuple(grade for _, grade in ordered))


@dataclass(frozen=True)
class EvaluationSet:
    """Judged queries, and what they are called."""

    name: str
    queries: tuple[JudgedQuery, ...]

    @property
    def pairs(self) -> list[Pair]:
        """All pairs, query by query."""
        return [(judged.query, text) for judged in self.queries for text in judged.documents]


def load_evaluation_set(folder: Path | None, *, half: int | None = None) -> EvaluationSet:
    """Read a BEIR folder, or make the built-in set; `half` 0 or 1 takes every other query.

    At most 100 queries, evenly spaced. A query of a folder has what it was judged with, at most
    50, and up to 20 in all that share its words. Raises ExportError.
    """
    if folder is None:
        return EvaluationSet(BUILT_IN, tuple(_built_in()))
    collection = open_collection(folder)
    queries = tuple(_judged(collection, half))
    if not queries:
        raise ExportError(f"{folder}: no query has a relevant document in the corpus")
    return EvaluationSet(collection.name, queries)


def load_calibration(path: Path | None, *, half: int | None = None) -> CalibrationPairs:
    """Read pairs from JSON lines or from a BEIR folder, or make the built-in ones.

    Raises ExportError; `half` as in `load_evaluation_set`.
    """
    if path is None or not path.is_dir():
        return load_pairs(path)
    data = load_evaluation_set(path, half=half)
    return split(data.name, data.pairs)


def _built_in() -> Iterator[JudgedQuery]:
    """Take queries that calibration doesn't take."""
    known = questions_and_texts()
    calibration = load_pairs(None)
    taken = dict(calibration.measure + calibration.judge)
    texts = [text[:_BUILT_IN_CHARACTERS] for _, text in known]
    lexicon = Lexicon.of(texts)
    free = [place for place in range(len(known)) if known[place][0] not in taken]
    for place in spread(free, MAX_QUERIES):
        query, own = known[place][0], texts[place]
        same = {at for at, text in enumerate(texts) if text == own or known[at][0] == query}
        wrong = lexicon.nearest(query, _BUILT_IN_DOCUMENTS - 1, same)
        yield JudgedQuery.of(query, [(own, 1), *((texts[at], 0) for at in wrong)])


def _judged(collection: Collection, half: int | None) -> Iterator[JudgedQuery]:
    relevant = [
        query_id
        for query_id, grades in collection.judgements.items()
        if any(grade > 0 for grade in grades.values())
    ]
    chosen = spread(relevant if half is None else relevant[half::2], MAX_QUERIES)
    wanted = {doc_id for query_id in chosen for doc_id in collection.judgements[query_id]}
    texts = dict(_texts(collection, wanted))
    ids = list(texts)
    lexicon = Lexicon.of(list(texts.values()))
    places = {doc_id: place for place, doc_id in enumerate(ids)}
    for query_id in chosen:
        grades = collection.judgements[query_id]
        known = sorted((doc_id for doc_id in grades if doc_id in texts), key=lambda i: -grades[i])
        judged = known[:_MOST_JUDGED]
        if not judged or grades[judged[0]] < 1:
            continue
        query = collection.queries[query_id]
        missing = max(0, _DOCUMENTS - len(judged))
        others = lexicon.nearest(query, missing, [places[doc_id] for doc_id in known])
        graded = [(texts[doc_id], max(0, grades[doc_id])) for doc_id in judged]
        yield JudgedQuery.of(query, graded + [(texts[ids[at]], 0) for at in others])


def _texts(collection: Collection, wanted: set[str]) -> Iterator[tuple[str, str]]:
    """Give the judged documents, and the corpus's first 20,000 others."""
    others = 0
    for document in read_corpus(collection.corpus):
        if document.doc_id not in wanted:
            others += 1
            if others > _MOST_TEXTS:
                continue
        yield document.doc_id, document.text
