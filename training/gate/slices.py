"""Parts of the traffic: a model that is better on the whole must not be worse for some."""

import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.gate.figures import Values
from training.gate.heldout import HeldOut
from training.plan_model import SlicePlan

_SHORT_WORDS, _LONG_WORDS = 3, 8
# Scripts that put no spaces between words: so many letters count as one.
_LETTERS_PER_WORD = {"CJK": 2, "HIRAGANA": 2, "KATAKANA": 2, "THAI": 4}


@dataclass(frozen=True)
class Slice:
    """Queries that have something in common, and the measure's mean over them, before and after."""

    name: str
    queries: int
    current: float
    new: float

    @property
    def difference(self) -> float:
        """How much it rose."""
        return self.new - self.current

    def as_json(self) -> dict[str, Any]:
        """Return rounded figures."""
        return {
            "slice": self.name,
            "queries": self.queries,
            "current": round(self.current, 4),
            "new": round(self.new, 4),
            "difference": round(self.difference, 4),
        }


def slices(held_out: HeldOut, current: Values, new: Values, plan: SlicePlan) -> list[Slice]:
    """Return all slices that are large enough, the worst first."""
    members: dict[str, list[int]] = {}
    for place, query_id in enumerate(held_out.queries):
        for name in _names(held_out, query_id):
            members.setdefault(name, []).append(place)
    found = [
        Slice(name, len(rows), float(np.mean(current[rows])), float(np.mean(new[rows])))
        for name, rows in members.items()
        if len(rows) >= plan.min_queries
    ]
    return sorted(found, key=lambda one: (one.difference, one.name))


def script(text: str) -> str:
    """Return the script of most letters, such as `latin`, `cyrillic` or `cjk`.

    It stands for the language: queries are too short to tell English from Dutch reliably.
    """
    names = [unicodedata.name(letter, "").split(" ")[0] for letter in text if letter.isalpha()]
    return Counter(names).most_common(1)[0][0].lower() if names else "none"


def length(text: str) -> str:
    """Return `short` (to 3 words), `medium` or `long` (from 9 words)."""
    letters = _LETTERS_PER_WORD.get(script(text).upper())
    words = len(text.split())
    if letters is not None:
        words = sum(letter.isalpha() for letter in text) // letters
    if words <= _SHORT_WORDS:
        return "short"
    return "medium" if words <= _LONG_WORDS else "long"


def _names(held_out: HeldOut, query_id: str) -> Iterator[str]:
    text = held_out.queries[query_id]
    yield f"length {length(text)}"
    yield f"script {script(text)}"
    if query_id in held_out.tenants:
        yield f"tenant {held_out.tenants[query_id]}"
