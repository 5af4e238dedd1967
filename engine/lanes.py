"""Lanes: threads that run one-thread inferences side by side, fed from one queue.

All lanes run the same ONNX Runtime session, so there is one copy of the weights: a session whose
operators use one thread runs on the thread that calls it, and may be called by many at once.
"""

import contextlib
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from engine.batches import CPU_SIZES, BatchSizes, plan_batches
from engine.graph import Graph, Logits
from engine.pairs import EncodedPair
from engine.stacks import Exact, Filled, Stack


class Scoring(Future[Logits]):
    """The logits of pairs that were handed in together."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped = False

    def stop(self) -> None:
        """Score no more of it: it is done with the model batches that are under way.

        NaN stands for what was not scored then.
        """
        self.stopped = True


class _Job:
    """Pairs that were handed in together. The lane that finishes the last batch sets the future."""

    def __init__(self, pairs: Sequence[EncodedPair], batches: int) -> None:
        self.pairs = pairs
        self.logits: Logits = np.full(len(pairs), np.nan, dtype=np.float32)
        self.future = Scoring()
        self._left = batches
        self._lock = threading.Lock()

    def finish_batch(self) -> None:
        with self._lock:
            self._left -= 1
            done = self._left == 0
        if done and self.future.set_running_or_notify_cancel():
            self.future.set_result(self.logits)


@dataclass(frozen=True)
class LaneStats:
    """Totals since the start; `busy_s` is the sum over all lanes."""

    pairs: int
    tokens: int
    busy_s: float


class Lanes:
    """N threads that take model batches of all jobs from one queue, in the order they came."""

    def __init__(self, graph: Graph | Filled, lanes: int, sizes: BatchSizes = CPU_SIZES) -> None:
        self._stack: Stack = graph if isinstance(graph, Filled) else Exact(graph)
        self._sizes = sizes
        self._lock = threading.Lock()
        self._stats = LaneStats(0, 0, 0.0)
        self._queue: SimpleQueue[tuple[_Job, NDArray[np.intp]] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"lane-{n}", daemon=True) for n in range(lanes)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, pairs: Sequence[EncodedPair]) -> Scoring:
        """Return a future of float32 [pairs]; NaN where a pair could not be scored, even alone.

        Batches of a cancelled or stopped future that have not begun are skipped.
        """
        lengths = [self._stack.length_of(len(pair.ids)) for pair in pairs]
        batches = plan_batches(lengths, self._sizes)
        job = _Job(pairs, len(batches))
        for batch in batches:
            self._queue.put((job, batch))
        if not batches:
            job.future.set_result(job.logits)
        return job.future

    @property
    def count(self) -> int:
        """How many lanes there are."""
        return len(self._threads)

    @property
    def stats(self) -> LaneStats:
        """What was scored so far."""
        return self._stats

    def close(self) -> None:
        """Finish what is queued and end the threads."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            job, batch = item
            if not job.future.cancelled() and not job.future.stopped:
                began = time.perf_counter()
                self._score(job, batch)
                self._count(job, batch, time.perf_counter() - began)
            job.finish_batch()

    def _count(self, job: _Job, batch: NDArray[np.intp], seconds: float) -> None:
        tokens = sum(len(job.pairs[position].ids) for position in batch)
        pairs = sum(job.pairs[position].first for position in batch)
        with self._lock:
            so_far = self._stats
            self._stats = LaneStats(
                so_far.pairs + pairs, so_far.tokens + tokens, so_far.busy_s + seconds
            )

    def _score(self, job: _Job, batch: NDArray[np.intp]) -> None:
        """Score a batch; what fails is halved until the bad pair stands alone."""
        job.logits[batch] = self._logits([job.pairs[position] for position in batch])
        failed = batch[~np.isfinite(job.logits[batch])]
        if len(batch) > 1 and len(failed):
            for half in np.array_split(failed, 2):
                if len(half):
                    self._score(job, half)

    def _logits(self, pairs: Sequence[EncodedPair]) -> Logits:
        """Return the logits of one model batch; NaN for all when it fails."""
        with contextlib.suppress(Exception):
            logits = self._stack.logits(pairs)
            if logits.shape == (len(pairs),):
                return logits
        return np.full(len(pairs), np.nan, dtype=np.float32)
