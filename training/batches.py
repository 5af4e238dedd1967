"""Groups to training batches, drawn by source."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from training.groups import RIGHT, Group


@dataclass(frozen=True, slots=True)
class Batch:
    """Lists of equal length: a query, its candidates, teacher scores and labels."""

    queries: list[str]
    candidates: list[list[str]]
    teacher: list[list[float]]
    labels: list[list[int]]
    judged: list[bool]


def pick_candidates(group: Group, n: int, rng: Random) -> list[int]:
    """Rows of at most `n` candidates: one right one (if any), the rest at random."""
    right = [i for i, y in enumerate(group.labels) if y == RIGHT]
    first = [rng.choice(right)] if right else []
    # A second right one would be a wasted place in a list that is to tell right from wrong.
    others = [i for i, y in enumerate(group.labels) if y != RIGHT]
    return first + rng.sample(others, min(n - len(first), len(others)))


def _batch(groups: list[Group], n_candidates: int, rng: Random) -> Batch:
    rows = [pick_candidates(g, n_candidates, rng) for g in groups]
    return Batch(
        [g.query for g in groups],
        [[g.candidates[i] for i in r] for g, r in zip(groups, rows, strict=True)],
        [[g.teacher[i] for i in r] for g, r in zip(groups, rows, strict=True)],
        [[g.labels[i] for i in r] for g, r in zip(groups, rows, strict=True)],
        [g.judged for g in groups],
    )


def _length(group: Group) -> int:
    return len(group.query) + sum(map(len, group.candidates)) // max(1, len(group.candidates))


class _Deck:
    """A source's groups, shuffled, cut into batches of like length, drawn without end."""

    def __init__(self, groups: list[Group], size: int, rng: Random) -> None:
        self._groups, self._size, self._rng = groups, size, rng
        self._ready: list[list[Group]] = []

    def draw(self) -> list[Group]:
        if not self._ready:
            order = sorted(self._groups, key=lambda g: _length(g) * self._rng.uniform(0.7, 1.4))
            cuts = range(0, len(order), self._size)
            self._ready = [order[i : i + self._size] for i in cuts]
            self._rng.shuffle(self._ready)
        return self._ready.pop()


def endless_batches(
    groups: list[Group],
    mix: dict[str, float],
    queries_per_batch: int,
    n_candidates: int,
    rng: Random,
) -> Iterator[Batch]:
    """Batches of one source each; sources come as often as `mix` says, else by their size."""
    by_source: dict[str, list[Group]] = {}
    for group in groups:
        by_source.setdefault(group.source, []).append(group)
    names = sorted(by_source)
    weights = [mix.get(n, len(by_source[n]) / len(groups)) for n in names]
    decks = {n: _Deck(by_source[n], queries_per_batch, rng) for n in names}
    while True:
        name = rng.choices(names, weights)[0]
        yield _batch(decks[name].draw(), n_candidates, rng)


def split_batch(batch: Batch, n_parts: int) -> list[Batch]:
    """The batch's queries in at most `n_parts` parts of like length, so that less is padding.

    Cut so that the part with the most padded text, which the others wait for, is least.
    """
    lengths = [
        (len(q) + max(map(len, c))) * len(c)
        for q, c in zip(batch.queries, batch.candidates, strict=True)
    ]
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    ordered = [max(1, lengths[row]) for row in order]
    limits = sorted({n * length for length in ordered for n in range(1, len(ordered) + 1)})
    least = bisect_left(limits, True, key=lambda limit: len(_cuts(ordered, limit)) <= n_parts)
    return [_rows(batch, order[begin:end]) for begin, end in _cuts(ordered, limits[least])]


def _cuts(ordered: list[int], limit: int) -> list[tuple[int, int]]:
    """The fewest parts of which none is more padded text than `limit`; the longest are last."""
    cuts = []
    end = len(ordered)
    while end:
        begin = max(0, end - max(1, limit // ordered[end - 1]))
        cuts.append((begin, end))
        end = begin
    return cuts[::-1]


def _rows(batch: Batch, rows: list[int]) -> Batch:
    return Batch(
        [batch.queries[i] for i in rows],
        [batch.candidates[i] for i in rows],
        [batch.teacher[i] for i in rows],
        [batch.labels[i] for i in rows],
        [batch.judged[i] for i in rows],
    )
