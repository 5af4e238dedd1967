"""A clock that stands still until it is told to go on."""

import threading
import time

START_S = 1_700_000_000.0
# What a wait gives to other threads, in real time, however long it lasts on this clock.
_YIELD_S = 0.0005


class FakeClock:
    """See `worker.clock.Clock`. Safe to call from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._passed_s = 0.0

    def now(self) -> float:
        """Unix time."""
        return START_S + self._passed_s

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        return self._passed_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._passed_s += seconds

    def wait(self, seconds: float) -> None:
        """Let time pass for the caller, and let other threads do something meanwhile."""
        self.advance(seconds)
        time.sleep(min(seconds, _YIELD_S))
