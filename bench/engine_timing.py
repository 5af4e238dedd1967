"""Times things against one another: in turn, round by round, so that noise meets all alike."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from export.bars import progress


@dataclass(frozen=True)
class Timing:
    """One round: seconds by the clock, and of this process's processors."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Spread:
    """What several rounds gave."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the least, the median and the most; raises ValueError for no values."""
        return cls(min(values), median(values), max(values))

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.low:.2f}-{self.high:.2f})"


def timed(work: Callable[[], object]) -> Timing:
    """Run once."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    return Timing(time.perf_counter() - wall_s, time.process_time() - cpu_s)


def in_turn(
    title: str, contestants: Mapping[str, Callable[[int], object]], rounds: int
) -> dict[str, list[Timing]]:
    """Run each contestant once in each round, A B C A B C; each is told the round's number."""
    timings: dict[str, list[Timing]] = {name: [] for name in contestants}
    with progress(title, total=rounds * len(contestants)) as advance:
        for number in range(rounds):
            for name, work in contestants.items():
                timings[name].append(timed(partial(work, number)))
                advance(1)
    return timings


def speed_ratio(
    faster: Sequence[Timing], slower: Sequence[Timing], scale: float = 1.0, *, cpu: bool = False
) -> Spread:
    """Return by how much `faster` beat `slower`, round by round.

    `scale` is the faster's work over the slower's, where they did not do the same.
    """

    def seconds(timing: Timing) -> float:
        return timing.cpu_s if cpu else timing.wall_s

    pairs = zip(faster, slower, strict=True)
    return Spread.of([scale * seconds(right) / seconds(left) for left, right in pairs])
