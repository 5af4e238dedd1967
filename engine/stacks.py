"""Pairs of one batch to the arrays of a graph: of one length, or filled up to one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.graph import Graph, Logits
from engine.pairs import EncodedPair

# Few enough lengths that a GPU meets them again, near enough that little is computed in vain.
# Scores depend on it: raise `engine.providers.GPU_SCORES` with it.
FILL_MULTIPLE = 16


class MaskedGraph(Protocol):
    """A graph with a mask, which tells it what of each row is the sequence."""

    def __call__(
        self,
        ids: NDArray[np.int64],
        document_start: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> Logits:
        """See `engine.graph.Graph`; ids from each row's length on, int64 [rows], are no tokens."""


class Stack(Protocol):
    """Runs batches of pairs whose lengths are one for it."""

    def length_of(self, length: int) -> int:
        """Return the length that a sequence is computed at. Batches are of one such length."""

    def logits(self, pairs: Sequence[EncodedPair]) -> Logits:
        """Return float32 [pairs]."""


@dataclass(frozen=True)
class Exact:
    """Sequences as they are: of one length in each batch."""

    graph: Graph

    def length_of(self, length: int) -> int:
        """See `Stack`."""
        return length

    def logits(self, pairs: Sequence[EncodedPair]) -> Logits:
        """See `Stack`."""
        ids = np.stack([pair.ids for pair in pairs]).astype(np.int64)
        return self.graph(ids, _starts(pairs))


@dataclass(frozen=True)
class Filled:
    """Sequences filled up to the next multiple, or to the longest that the model reads.

    How far depends on a sequence's own length alone, so its score still does not depend on what
    it is batched with. `token` fills up; the mask hides it.
    """

    graph: MaskedGraph
    token: int
    longest: int
    multiple: int = FILL_MULTIPLE

    def length_of(self, length: int) -> int:
        """See `Stack`."""
        return max(length, min(self.longest, -(-length // self.multiple) * self.multiple))

    def logits(self, pairs: Sequence[EncodedPair]) -> Logits:
        """See `Stack`."""
        lengths = np.asarray([len(pair.ids) for pair in pairs], dtype=np.int64)
        width = self.length_of(int(lengths.max()))
        ids = np.full((len(pairs), width), self.token, dtype=np.int64)
        for row, pair in zip(ids, pairs, strict=True):
            row[: len(pair.ids)] = pair.ids
        return self.graph(ids, _starts(pairs), lengths)


def _starts(pairs: Sequence[EncodedPair]) -> NDArray[np.int64]:
    return np.asarray([pair.document_start for pair in pairs], dtype=np.int64)
