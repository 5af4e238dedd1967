"""Time, as a boundary, so that tests can hold it still."""

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for ages of records, monotonic time for durations; both in seconds."""

    def now(self) -> float:
        """Return Unix time."""

    def monotonic(self) -> float:
        """Return a time that never goes back."""

    def wait(self, seconds: float) -> None:
        """Return after so long."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """See `Clock`."""
        return time.time()

    def monotonic(self) -> float:
        """See `Clock`."""
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        """See `Clock`."""
        time.sleep(seconds)
