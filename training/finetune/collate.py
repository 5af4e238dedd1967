"""Numbers of draws to the columns that each loss reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from sentence_transformers.cross_encoder.data_collator import CrossEncoderDataCollator

from training.finetune.draws import Draws
from training.finetune.labels import Document, LabelledQuery

# flat: (query, document) and a number; list: a query, its documents, and as many numbers;
# margin: (query, better, worse) and the difference.
Shape = Literal["flat", "list", "margin"]
# By query id, then document id: what is learnt instead of the label.
Scores = Mapping[str, Mapping[str, float]]

Drawn = tuple[LabelledQuery, list[Document]]


@dataclass
class DrawCollator(CrossEncoderDataCollator):
    """Turns rows `{"draw": number}` into texts, so that no epoch is ever kept in memory."""

    draws: Draws | None = None
    shape: Shape = "list"
    teacher: Scores | None = None

    def __call__(self, features: Sequence[Mapping[str, int]]) -> dict[str, Any]:
        """Return a batch; the label's column is last."""
        assert self.draws is not None, "the collator was not given its draws"
        drawn = [self.draws.draw(row["draw"]) for row in features]
        columns = {"flat": self._flat, "list": self._list, "margin": self._margin}
        return columns[self.shape](drawn)

    def _value(self, query: LabelledQuery, document: Document) -> float:
        if self.teacher is None:
            return document.label
        return self.teacher[query.query_id][document.doc_id]

    def _flat(self, drawn: Sequence[Drawn]) -> dict[str, Any]:
        rows = [(query, document) for query, documents in drawn for document in documents]
        return {
            "query": [query.query for query, _ in rows],
            "document": [document.text for _, document in rows],
            "label": torch.tensor([self._value(*row) for row in rows]),
        }

    def _list(self, drawn: Sequence[Drawn]) -> dict[str, Any]:
        return {
            "query": [query.query for query, _ in drawn],
            "documents": [[each.text for each in documents] for _, documents in drawn],
            "label": [
                torch.tensor([self._value(query, each) for each in documents])
                for query, documents in drawn
            ],
        }

    def _margin(self, drawn: Sequence[Drawn]) -> dict[str, Any]:
        """The first document, whose label is the best, against each of the others."""
        rows = [
            (query, documents[0], other) for query, documents in drawn for other in documents[1:]
        ]
        return {
            "query": [query.query for query, _, _ in rows],
            "better": [better.text for _, better, _ in rows],
            "worse": [worse.text for _, _, worse in rows],
            "label": torch.tensor(
                [self._value(query, one) - self._value(query, two) for query, one, two in rows]
            ),
        }
