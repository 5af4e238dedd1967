"""Ends the process when a step takes longer than it ever may.

Some calls of the Kafka client (`send_offsets_to_transaction`, `commit_transaction`,
`abort_transaction`) wait without bound when the broker is gone, and nothing can interrupt them.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from worker.errors import EXIT_FATAL


class Watchdog:
    """One thread that watches one step at a time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._step: tuple[str, float] | None = None
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    @contextmanager
    def limit(self, step: str, seconds: float) -> Iterator[None]:
        """Let the enclosed code take so long and no longer."""
        self._set((step, time.monotonic() + seconds))
        try:
            yield
        finally:
            self._set(None)

    def _set(self, step: tuple[str, float] | None) -> None:
        with self._changed:
            self._step = step
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while True:
                if self._step is None:
                    self._changed.wait()
                    continue
                name, until = self._step
                left = until - time.monotonic()
                if left <= 0:
                    end_process(f"{name} did not end in time; the broker is gone or too slow")
                self._changed.wait(left)


def end_process(reason: str) -> None:
    """Exit at once without cleaning up: a thread hangs, and would hang the clean-up too."""
    sys.stderr.write(f"kafka-reranker: fatal: {reason}\n")
    sys.stderr.flush()
    os._exit(EXIT_FATAL)
