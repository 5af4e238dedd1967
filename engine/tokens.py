"""Token ids of documents, kept: a document that comes again is not tokenised again."""

import hashlib
import threading
from collections.abc import Callable, Sequence

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

Ids = NDArray[np.int32]
Tokenise = Callable[[Sequence[str]], list[Ids]]

BUDGET_BYTES = 32 * 1024 * 1024
# Python's own cost of an entry beside its ids: key, array object, and the cache's links.
ENTRY_OVERHEAD_BYTES = 400
KEY_BYTES = 16


class TokenCache:
    """Ids by text, least recently used out first, within a budget of bytes. Thread-safe."""

    def __init__(self, budget_bytes: int = BUDGET_BYTES) -> None:
        self._lock = threading.Lock()
        self._ids: LRUCache[bytes, Ids] = LRUCache(
            maxsize=budget_bytes, getsizeof=lambda ids: ids.nbytes + ENTRY_OVERHEAD_BYTES
        )

    def look_up(self, texts: Sequence[str], tokenise: Tokenise) -> list[Ids]:
        """Return the ids of each text, read-only; `tokenise` gets those that are not known."""
        keys = [_key(text) for text in texts]
        with self._lock:
            known = {key: ids for key in keys if (ids := self._ids.get(key)) is not None}
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if new:
            known |= self._keep(dict(zip(new, tokenise(list(new.values())), strict=True)))
        return [known[key] for key in keys]

    def _keep(self, new: dict[bytes, Ids]) -> dict[bytes, Ids]:
        for ids in new.values():
            ids.setflags(write=False)
        with self._lock:
            for key, ids in new.items():
                if ids.nbytes + ENTRY_OVERHEAD_BYTES <= self._ids.maxsize:
                    self._ids[key] = ids
        return new


def _key(text: str) -> bytes:
    # Lone surrogates are no UTF-8, yet JSON can bring them: the tokenizer decides about them.
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=KEY_BYTES).digest()
