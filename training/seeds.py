"""Random generators that belong to one purpose each."""

import hashlib
import zlib
from collections.abc import Iterable
from random import Random


def seeded(seed: int, purpose: str = "") -> Random:
    """A generator for one purpose, so that leaving out one source doesn't change the others."""
    if purpose:
        seed = seed * 1_000_003 + zlib.crc32(purpose.encode())
    return Random(seed)  # noqa: S311 - no secrets here


def half_of(query_ids: Iterable[str], *, second: bool) -> list[str]:
    """One half of the queries, by the hash of their id: the same in every run."""
    ids = sorted(query_ids, key=lambda query: hashlib.sha256(query.encode()).digest())
    middle = (len(ids) + 1) // 2
    return ids[middle:] if second else ids[:middle]
