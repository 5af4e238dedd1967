"""Texts that share rare words with a query: the wrong answers that are hard to tell from right."""

import math
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Lexicon:
    """Texts by their words. `places`: in which texts a word is; `lengths`: distinct words each."""

    places: dict[str, list[int]]
    lengths: list[int]

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Lexicon":
        """Index some texts, by position."""
        places: dict[str, list[int]] = defaultdict(list)
        lengths = []
        for position, text in enumerate(texts):
            words = set(_words(text))
            lengths.append(len(words))
            for word in words:
                places[word].append(position)
        return cls(dict(places), lengths)

    def nearest(self, query: str, count: int, excluded: Collection[int] = ()) -> list[int]:
        """Return the positions of the best texts, best first; only such that share a word."""
        scores: dict[int, float] = defaultdict(float)
        for word in sorted(set(_words(query))):
            found = self.places.get(word, [])
            weight = math.log((len(self.lengths) + 1) / (len(found) + 0.5))
            for position in found:
                scores[position] += weight / math.sqrt(self.lengths[position])
        for position in excluded:
            scores.pop(position, None)
        return sorted(scores, key=lambda position: (-scores[position], position))[:count]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
