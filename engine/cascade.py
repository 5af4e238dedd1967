"""Which candidates the model needs not score: cut by cheaper scores, as its bundle says.

Serving, evaluation and the choice of the cuts all use this code.
"""

import math
from collections.abc import Sequence

import numpy as np

from schemas.manifests import Cascade, Cut, IndexManifest

Positions = list[int]


def survivors(cut: Cut, scores: Sequence[float]) -> Positions:
    """Return the positions that go on, ascending. Ties: the earlier one is better.

    NaN is the score of what could not be scored: it goes on, and is the model's to judge.
    """
    values = np.asarray(scores, dtype=np.float64)
    unknown = np.isnan(values)
    order = np.argsort(-np.where(unknown, -math.inf, values), kind="stable")
    order = order[: len(values) - int(unknown.sum())]
    if not len(order):
        return list(range(len(values)))
    near = int((values[order] >= values[order[0]] - cut.margin).sum())
    keep = max(cut.least, min(cut.most, near))
    return sorted([*order[:keep].tolist(), *np.flatnonzero(unknown).tolist()])


def retriever_cut(cascade: Cascade, index: IndexManifest | None) -> Cut | None:
    """Return the cut by retrieval score if it was chosen for the scores of this index.

    Scores that an application sends along have no known scale: by them nothing is cut.
    """
    if index is None or index.embedder.source.digest != cascade.embedder:
        return None
    return cascade.retriever


def by_retriever(cut: Cut | None, scores: Sequence[float | None]) -> Positions:
    """Return the positions that go on after retrieval; all where a score is not known."""
    known = [score for score in scores if score is not None]
    if cut is None or len(known) < len(scores):
        return list(range(len(scores)))
    return survivors(cut, known)
