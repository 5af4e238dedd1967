"""The latency budget: how many pairs a second each bundle scores, in turn with the other."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from engine.score import Scorer

_ROUNDS = 5


@dataclass(frozen=True)
class Speed:
    """Pairs a second through the engine, on as many lanes as the machine has processors."""

    current: float
    new: float
    pairs: int

    @property
    def ratio(self) -> float:
        """The new model's speed as a share of the current one's."""
        return self.new / self.current


def compare_speed(current: Scorer, new: Scorer, pairs: Sequence[tuple[str, str]]) -> Speed:
    """Time both in turn and take each one's fastest round: other work only ever slows one down."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for scorer in (current, new):  # the first run of a graph allocates
        scorer.score(pairs[:32])
    for _ in range(_ROUNDS):
        for scorer, taken in zip((current, new), seconds, strict=True):
            began = time.perf_counter()
            scorer.score(pairs)
            taken.append(time.perf_counter() - began)
    return Speed(len(pairs) / min(seconds[0]), len(pairs) / min(seconds[1]), len(pairs))
