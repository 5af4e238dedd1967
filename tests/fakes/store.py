"""A store that counts, and that can be away."""

import threading
from collections.abc import Mapping, Sequence


class FakeStore:
    """See `worker.store.Store`. While `away`, everything is a miss and nothing is kept."""

    def __init__(self) -> None:
        self.items: dict[bytes, bytes] = {}
        self.away = False
        self.gets = 0
        self.sets = 0
        self._lock = threading.Lock()

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Store`."""
        with self._lock:
            self.gets += 1
            return [None if self.away else self.items.get(key) for key in keys]

    def set_many(self, items: Mapping[bytes, bytes]) -> None:
        """See `Store`."""
        with self._lock:
            self.sets += 1
            if not self.away:
                self.items.update(items)

    def close(self) -> None:
        """See `Store`."""
