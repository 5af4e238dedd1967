"""Figures of a pass, from what was really answered."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles

from demo.asking import Answered


@dataclass(frozen=True)
class Pass:
    """Questions that were asked together (or one after the other) and how it went."""

    name: str
    answers: Sequence[Answered]
    seconds: float

    @property
    def queries_per_s(self) -> float:
        """Answered queries in each second from the first publish to the last read."""
        return len(self.answers) / self.seconds

    @property
    def pairs(self) -> int:
        """Pairs of question and document that were ranked."""
        return self.hits + sum(answer.ranked.cache.misses for answer in self.answers)

    @property
    def pairs_per_s(self) -> float:
        """Ranked pairs in each second."""
        return self.pairs / self.seconds

    @property
    def hits(self) -> int:
        """Pairs whose score came from the cache."""
        return sum(answer.ranked.cache.hits for answer in self.answers)

    @property
    def hit_ratio(self) -> float:
        """Part of the pairs that came from the cache, from 0 to 1."""
        return self.hits / self.pairs if self.pairs else 0.0

    def latency_ms(self, percent: int) -> float:
        """Return a percentile of the time from publishing to reading the list."""
        latencies = [answer.latency_s * 1000 for answer in self.answers]
        if len(latencies) == 1:
            return latencies[0]
        return quantiles(latencies, n=100, method="inclusive")[percent - 1]
