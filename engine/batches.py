"""Sequences to model batches: only equal lengths go together.

Then no graph needs a mask on a CPU, and what a pair scores cannot depend on its neighbours (on a
GPU lengths are made equal first, see `engine/stacks.py`). So how many rows a batch has is a matter
of speed alone, and belongs to a model and to what runs it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.manifests import ModelManifest

# Past these sizes a batch on a CPU gains nothing, as long as nothing was measured for the model
# itself (see docs/performance.md).
MAX_ROWS = 32
MAX_BATCH_TOKENS = 512


@dataclass(frozen=True)
class BatchSize:
    """What a batch holds at most; one row always fits, however long it is.

    `powers_of_two` rounds its rows down to one: where rows are filled up to the next, full batches
    are then computed as they are.
    """

    rows: int = MAX_ROWS
    tokens: int = MAX_BATCH_TOKENS
    powers_of_two: bool = False

    def rows_of(self, length: int) -> int:
        """Return how many sequences of so many tokens make a full batch."""
        rows = max(1, min(self.rows, self.tokens // max(length, 1)))
        return 1 << (rows.bit_length() - 1) if self.powers_of_two else rows


@dataclass(frozen=True)
class BatchSizes:
    """The best batch for each length.

    Each step is the longest sequence that it is for and the size; the last step, or without any
    `default`, is for longer ones, too.
    """

    default: BatchSize = BatchSize()
    steps: tuple[tuple[int, BatchSize], ...] = ()

    def rows_of(self, length: int) -> int:
        """Return how many sequences of so many tokens make a full batch."""
        size = self.steps[-1][1] if self.steps else self.default
        for longest, stepped in self.steps:
            if length <= longest:
                size = stepped
                break
        return size.rows_of(length)


CPU_SIZES = BatchSizes()


def measured_sizes(
    manifest: ModelManifest, device: str, *, powers_of_two: bool = False
) -> BatchSizes | None:
    """Return what `python -m export tune` measured for a bundle on a device, if it did."""
    for table in manifest.batches or ():
        if table.device == device:
            return BatchSizes(
                steps=tuple(
                    (step.tokens, BatchSize(step.rows, step.batch_tokens, powers_of_two))
                    for step in table.steps
                )
            )
    return None


def plan_batches(lengths: Sequence[int], sizes: BatchSizes = CPU_SIZES) -> list[NDArray[np.intp]]:
    """Return groups of positions of equal length, longest first.

    Longest first, so that the lanes finish together: what is left for the end is small.
    """
    values = np.asarray(lengths)
    order = np.argsort(-values, kind="stable")
    batches: list[NDArray[np.intp]] = []
    start = 0
    while start < len(order):
        length = int(values[order[start]])
        rows = sizes.rows_of(length)
        end = start + 1
        while end < len(order) and end - start < rows and values[order[end]] == length:
            end += 1
        batches.append(order[start:end])
        start = end
    return batches
