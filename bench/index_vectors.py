"""Simulated embeddings: cheap to make, and clustered unevenly as those of texts are.

Each vector is a topic's centre plus its own part, both with a spectrum that falls as that of real
embeddings does, turned by one random rotation and brought to length 1. Topics have Zipf's sizes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from engine.embed import Vectors

DIMENSION = 384
TOPICS = 5_000
BLOCK = 10_000
OWN_PART = 0.7


@dataclass(frozen=True)
class Simulation:
    """Draws vectors: the same seed and length give the same ones."""

    centres: Vectors
    rotation: Vectors
    shares: Vectors

    @classmethod
    def new(cls, seed: int = 7) -> "Simulation":
        """Draw the topics."""
        rng = np.random.default_rng(seed)
        rotation, _ = np.linalg.qr(rng.standard_normal((DIMENSION, DIMENSION)))
        shares = 1 / np.arange(1, TOPICS + 1)
        centres = rng.standard_normal((TOPICS, DIMENSION)) * _spectrum()
        return cls(
            centres.astype(np.float32),
            rotation.astype(np.float32),
            (shares / shares.sum()).astype(np.float64),
        )

    def draw(self, count: int, seed: int) -> Iterator[Vectors]:
        """Give blocks of vectors, float32 [BLOCK or fewer, DIMENSION]."""
        for start in range(0, count, BLOCK):
            rng = np.random.default_rng([seed, start])
            size = min(BLOCK, count - start)
            topics = rng.choice(TOPICS, size, p=self.shares)
            own = rng.standard_normal((size, DIMENSION), dtype=np.float32) * _spectrum()
            vectors = (self.centres[topics] + OWN_PART * own) @ self.rotation
            yield vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _spectrum() -> Vectors:
    return (np.arange(1, DIMENSION + 1) ** -0.5).astype(np.float32)
