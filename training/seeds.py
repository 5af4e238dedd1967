"""Random generators that belong to one purpose each."""

import zlib
from random import Random


def seeded(seed: int, purpose: str = "") -> Random:
    """A generator for one purpose, so that leaving out one source doesn't change the others."""
    if purpose:
        seed = seed * 1_000_003 + zlib.crc32(purpose.encode())
    return Random(seed)  # noqa: S311 - no secrets here
