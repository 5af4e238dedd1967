"""Which documents of which query make up each training batch.

Every batch is a function of the seed and its number alone, so a run that was killed goes on with
the batches that it would have had.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from training.finetune.labels import Document, LabelledQuery
from training.seeds import seeded


@dataclass(frozen=True)
class Draws:
    """Lists for training: each epoch has every query once, each with documents drawn anew."""

    queries: Sequence[LabelledQuery]
    per_query: int
    epochs: int
    seed: int

    def __len__(self) -> int:
        return len(self.queries) * self.epochs

    def order(self) -> list[int]:
        """Return the numbers of all draws, shuffled within each epoch."""
        numbers: list[int] = []
        for epoch in range(self.epochs):
            start = epoch * len(self.queries)
            block = list(range(start, start + len(self.queries)))
            seeded(self.seed, f"order {epoch}").shuffle(block)
            numbers += block
        return numbers

    def draw(self, number: int) -> tuple[LabelledQuery, list[Document]]:
        """Return a query and its documents, of which the first has the best label drawn."""
        query = self.queries[number % len(self.queries)]
        rng = seeded(self.seed, f"draw {number}")
        return query, pick(query, self.per_query, rng)


def pick(query: LabelledQuery, count: int, rng: Random) -> list[Document]:
    """Draw at most `count` documents, heavy ones sooner, with at least one pair to tell apart.

    The weight acts as a chance: over epochs a document is seen in proportion to it, in place of a
    factor in the loss, which lists cut by chance would make noisy.
    """
    # The smallest of exponential times with these rates: drawing by weight without replacement.
    times = {
        place: rng.expovariate(1.0) / document.weight
        for place, document in enumerate(query.documents)
        if document.weight > 0
    }
    order = sorted(times, key=times.__getitem__)
    if not order:
        return []
    best = max(query.documents[place].label for place in order)
    first = next(place for place in order if query.documents[place].label == best)
    worse = [place for place in order if query.documents[place].label < best]
    kept = [first, *worse[:1]]
    kept += [place for place in order if place not in kept][: max(0, count - len(kept))]
    return [query.documents[place] for place in kept]


def worth_training(queries: Sequence[LabelledQuery]) -> list[LabelledQuery]:
    """Return the queries in which one document with weight is better than another."""
    return [
        query for query in queries if len({d.label for d in query.documents if d.weight > 0}) > 1
    ]
