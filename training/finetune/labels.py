"""Reads `labels/groups.parquet`: lists of labelled documents, one a query."""

import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path

from training.finetune.errors import LabelsError
from training.label_rows import LabelRow, read_rows

SPLITS = ("train", "dev", "test")
# Labels are fractions, and judgements of evaluation tools whole numbers; NDCG doesn't change when
# all of them are multiplied.
GRADES_PER_LABEL = 100
# What measures of right and wrong call right.
RIGHT_FROM = 0.5
# A label that weighs less is a guess: a document without a click, where nobody is likely to have
# looked, is not known to be wrong. It is trained on, by its weight, but nothing is judged by it.
KNOWN_FROM = 0.5
_LAST = 1_000_000


@dataclass(frozen=True, slots=True)
class Document:
    """A document as a query saw it. `label` 0 is wrong; `weight` says how sure that is."""

    doc_id: str
    text: str
    label: float
    weight: float
    retrieval_rank: int | None
    retrieval_score: float | None


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """A query and its documents, in the retriever's order where that is known."""

    query_id: str
    query: str
    tenant: str | None
    documents: tuple[Document, ...]

    @property
    def teaches(self) -> bool:
        """Whether one document is better than another."""
        return len({document.label for document in self.documents}) > 1

    def known(self) -> "LabelledQuery":
        """Return it with those documents alone whose labels are sure enough to judge by."""
        sure = tuple(each for each in self.documents if each.weight >= KNOWN_FROM)
        return replace(self, documents=sure)

    @property
    def has_right(self) -> bool:
        """Whether anything answers it."""
        return any(document.label > 0 for document in self.documents)


def normalised(query: str) -> str:
    """What makes two queries the same one: letters' case, width and spaces don't count."""
    return " ".join(unicodedata.normalize("NFKC", query).casefold().split())


def read_labels(file: Path) -> dict[str, list[LabelledQuery]]:
    """Return the queries of each split, in the order of the file; raises InputError."""
    found: dict[str, dict[str, list[LabelRow]]] = {split: {} for split in SPLITS}
    for row in read_rows(file):
        if row.split not in found:
            raise LabelsError(f"{file}: {row.split!r} is no split: label it again")
        found[row.split].setdefault(row.query_id, []).append(row)
    return {split: [_query(rows) for rows in queries.values()] for split, queries in found.items()}


def relevances(query: LabelledQuery) -> dict[str, int]:
    """Return the judgements for graded measures: the label in hundredths."""
    return {each.doc_id: round(each.label * GRADES_PER_LABEL) for each in query.documents}


def rights(query: LabelledQuery) -> dict[str, int]:
    """Return the judgements for measures of right (1) and wrong (0)."""
    return {each.doc_id: int(each.label >= RIGHT_FROM) for each in query.documents}


def _query(rows: list[LabelRow]) -> LabelledQuery:
    first = rows[0]
    # A document that is named twice would be drawn against itself.
    unique = {
        row.doc_id: Document(
            row.doc_id, row.text, row.label, row.weight, row.retrieval_rank, row.retrieval_score
        )
        for row in rows
    }
    order = sorted(unique.values(), key=lambda each: (each.retrieval_rank or _LAST, each.doc_id))
    return LabelledQuery(first.query_id, first.query, first.tenant, tuple(order))
