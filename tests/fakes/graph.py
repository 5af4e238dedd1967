"""A graph without weights: logits that follow from the token ids alone."""

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.graph import Logits

WAIT_S = 60.0


class GraphDown(Exception):  # noqa: N818 - it says what is the matter
    """What a runtime might raise."""


def logit_of(ids: NDArray[np.signedinteger[Any]]) -> float:
    """The logit of a row: between -8 and 8, different for nearly all rows."""
    row = np.asarray(ids, dtype=np.int64)
    mixed = int((row * (np.arange(len(row)) * 7 + 3)).sum())
    return float(np.float32((mixed * 2_654_435_761 % 2**32) / 2**28 - 8))


class FakeGraph:
    """See `engine.graph.Graph`.

    A batch with an id of `fails_on` raises; a row with an id of `nan_on` gives NaN; while `down`,
    every call raises; while `gate` is not set, calls wait.
    """

    def __init__(self, fails_on: set[int] | None = None, nan_on: set[int] | None = None) -> None:
        self.fails_on = fails_on or set()
        self.nan_on = nan_on or set()
        self.down = False
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self._lock = threading.Lock()
        self.rows: list[tuple[int, ...]] = []

    def __call__(self, ids: NDArray[np.int64], document_start: NDArray[np.int64]) -> Logits:
        """See `Graph`."""
        assert ids.dtype == np.int64
        assert document_start.shape == ids.shape[:1]
        self.entered.set()
        assert self.gate.wait(WAIT_S), "nobody opened the gate"
        if self.down or self.fails_on & set(ids.ravel().tolist()):
            raise GraphDown
        with self._lock:
            self.rows.extend(tuple(row) for row in ids.tolist())
        return np.asarray(
            [np.nan if self.nan_on & set(row.tolist()) else logit_of(row) for row in ids],
            dtype=np.float32,
        )
