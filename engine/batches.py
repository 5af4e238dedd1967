"""Sequences to model batches: only equal lengths go together.

Then no batch holds padding, no graph needs a mask, and what a pair scores cannot depend on its
neighbours.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Past these sizes a batch no longer gains anything from its length (see docs/performance.md).
MAX_ROWS = 32
MAX_BATCH_TOKENS = 512


def plan_batches(
    lengths: Sequence[int], max_rows: int = MAX_ROWS, max_tokens: int = MAX_BATCH_TOKENS
) -> list[NDArray[np.intp]]:
    """Return groups of positions of equal length, longest first.

    Longest first, so that the lanes finish together: what is left for the end is small.
    A batch has at most `max_rows` rows and, unless it is a single row, `max_tokens` tokens.
    """
    values = np.asarray(lengths)
    order = np.argsort(-values, kind="stable")
    batches: list[NDArray[np.intp]] = []
    start = 0
    while start < len(order):
        length = int(values[order[start]])
        rows = max(1, min(max_rows, max_tokens // max(length, 1)))
        end = start + 1
        while end < len(order) and end - start < rows and values[order[end]] == length:
            end += 1
        batches.append(order[start:end])
        start = end
    return batches
