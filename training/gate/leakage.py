"""Finds held-out queries and pairs that were trained on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from training.finetune.labels import LabelledQuery, normalised
from training.gate.heldout import HeldOut


@dataclass(frozen=True)
class Leakage:
    """What is in both: texts of queries, and how many pairs of a query and a document's text."""

    queries: tuple[str, ...]
    pairs: int

    def __bool__(self) -> bool:
        return bool(self.queries or self.pairs)

    def __str__(self) -> str:
        shown = ", ".join(repr(query[:60]) for query in self.queries[:3])
        return (
            f"leakage: {len(self.queries)} held-out queries were trained on ({shown}), with "
            f"{self.pairs} pairs in common; measure on other queries"
        )


def find_leakage(trained: Iterable[LabelledQuery], held_out: HeldOut) -> Leakage:
    """Compare the queries that chose weights or the step with those that are to judge."""
    known: dict[str, set[str]] = {}
    for query in trained:
        texts = known.setdefault(normalised(query.query), set())
        texts.update(document.text for document in query.documents)
    leaked = {
        query_id: known[normalised(text)]
        for query_id, text in held_out.queries.items()
        if normalised(text) in known
    }
    return Leakage(
        tuple(sorted(held_out.queries[query_id] for query_id in leaked)),
        _pairs(leaked, held_out),
    )


def _pairs(leaked: Mapping[str, set[str]], held_out: HeldOut) -> int:
    return sum(
        hit.text in texts
        for query_id, texts in leaked.items()
        for hit in held_out.candidates[query_id]
    )
