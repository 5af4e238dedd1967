"""Times batches of several sizes at several lengths, and says which is the fastest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

import numpy as np
from numpy.typing import NDArray

from engine.batches import BatchSize
from engine.graph import Graph
from export.bars import progress

LENGTHS = (16, 32, 64, 128, 256, 512)
# Beside the default size, these shares of it.
SHARES = (0.25, 0.5, 2.0, 4.0)
# A size must win three rounds of four by this much: less is noise, and costs a new digest.
LEAST_GAIN = 0.02

Seconds = Mapping[BatchSize, Sequence[float]]


@dataclass(frozen=True)
class Grid:
    """What is timed: sequences of random ids below `vocabulary`, at lengths up to the model's.

    `most_tokens` bounds batches: a batch that has begun is finished, whatever waits. `clock` gives
    seconds.
    """

    graph: Graph
    default: BatchSize
    longest: int
    vocabulary: int
    most_tokens: int
    clock: Callable[[], float]

    @property
    def lengths(self) -> list[int]:
        """Return the lengths that are timed."""
        return sorted({min(length, self.longest) for length in LENGTHS})

    def sizes(self, length: int) -> list[BatchSize]:
        """Return sizes that differ in rows at this length, the default first."""
        found = {self.default.rows_of(length): self.default}
        for share in SHARES:
            size = BatchSize(
                max(1, int(self.default.rows * share)),
                max(1, int(self.default.tokens * share)),
                self.default.powers_of_two,
            )
            rows = size.rows_of(length)
            if rows == 1 or rows * length <= self.most_tokens:
                found.setdefault(rows, size)
        return list(found.values())

    def time(self, rounds: int) -> dict[int, Seconds]:
        """Return for each length the seconds a pair of each size, round by round, in turn."""
        plans = {length: self.sizes(length) for length in self.lengths}
        seconds: dict[int, dict[BatchSize, list[float]]] = {
            length: {size: [] for size in sizes} for length, sizes in plans.items()
        }
        with progress("Timing batches", total=(rounds + 1) * len(plans)) as advance:
            for number in range(rounds + 1):
                for length, sizes in plans.items():
                    pairs = max(size.rows_of(length) for size in sizes)
                    turn = number % len(sizes)
                    for size in sizes[turn:] + sizes[:turn]:
                        took = self._score(length, size.rows_of(length), pairs, number)
                        if number:  # the first round warms up
                            seconds[length][size].append(took)
                    advance(1)
        return dict(seconds)

    def _score(self, length: int, rows: int, pairs: int, seed: int) -> float:
        """Return seconds a pair of `pairs` pairs in batches of so many rows."""
        ids = self.random_ids(length, pairs, seed)
        starts = np.full(pairs, length // 4)
        began = self.clock()
        for at in range(0, pairs, rows):
            self.graph(ids[at : at + rows], starts[at : at + rows])
        return (self.clock() - began) / pairs

    def random_ids(self, length: int, rows: int, seed: int) -> NDArray[np.int64]:
        """Return int64 [rows, length]."""
        chance = np.random.default_rng((seed, length))
        return chance.integers(0, self.vocabulary, size=(rows, length))


@dataclass(frozen=True)
class Choice:
    """The size for sequences of up to `length` tokens, and pairs/s with it and by default."""

    length: int
    size: BatchSize
    pairs_per_s: float
    default_pairs_per_s: float
    gain: float


def choose(length: int, seconds: Seconds) -> Choice:
    """Return the fastest size; the first, the default, where none is faster beyond noise."""
    default, *others = seconds
    gains = {size: _gains(seconds[default], seconds[size]) for size in others}
    sure = [size for size in others if _lower_quartile(gains[size]) >= 1 + LEAST_GAIN]
    best = max(sure, key=lambda size: median(gains[size]), default=default)
    return Choice(
        length,
        best,
        1 / median(seconds[best]),
        1 / median(seconds[default]),
        median(gains[best]) if best != default else 1.0,
    )


def _gains(default: Sequence[float], other: Sequence[float]) -> list[float]:
    return [before / after for before, after in zip(default, other, strict=True)]


def _lower_quartile(values: Sequence[float]) -> float:
    return values[0] if len(values) == 1 else quantiles(values, n=4, method="inclusive")[0]
