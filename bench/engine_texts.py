"""The questions and candidates that are scored: TREC QA where it is at hand, else docstrings.

TREC QA is read from the folder that RERANKER_TEST_DATA names (default: `../shared/data`).
"""

import gzip
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import log
from pathlib import Path

from export.calibration import load_pairs

DEFAULT_DATA = "../shared/data"
# About 300 tokens with the question, in English.
LONG_WORDS = 215


@dataclass(frozen=True)
class Question:
    """A query and its candidates."""

    query: str
    documents: tuple[str, ...]

    def salted(self, salt: str) -> "Question":
        """Return the same question in other words, so that no cache knows its pairs."""
        return Question(f"{self.query} {salt}", self.documents)


@dataclass(frozen=True)
class Texts:
    """Queries and passages of one source, which `name` tells."""

    name: str
    queries: tuple[str, ...]
    passages: tuple[str, ...]

    def natural(self, count: int, candidates: int) -> list[Question]:
        """Return questions, each with the passages that have the most rare words in common."""
        weight = _weights(self.passages)
        bags = [set(_words(passage)) for passage in self.passages]

        def candidates_of(query: str) -> Iterator[str]:
            words = set(_words(query))
            overlap = [sum(weight.get(word, 0.0) for word in words & bag) for bag in bags]
            best = sorted(range(len(bags)), key=lambda place: -overlap[place])
            return (self.passages[place] for place in best[:candidates])

        return [Question(query, tuple(candidates_of(query))) for query in self._queries(count)]

    def long(self, count: int, candidates: int) -> list[Question]:
        """Return the same with the passages behind each one added, to about 300 tokens."""
        following = {passage: place for place, passage in enumerate(self.passages)}
        return [
            Question(
                question.query,
                tuple(self._lengthened(following[each]) for each in question.documents),
            )
            for question in self.natural(count, candidates)
        ]

    def lengthened(self) -> Sequence[str]:
        """Return all passages, each with those behind it added, to about 300 tokens."""
        return [self._lengthened(place) for place in range(len(self.passages))]

    def _queries(self, count: int) -> Sequence[str]:
        return [self.queries[number % len(self.queries)] for number in range(count)]

    def _lengthened(self, place: int) -> str:
        words: list[str] = []
        while len(words) < LONG_WORDS:
            words.extend(self.passages[place % len(self.passages)].split())
            place += 1
        return " ".join(words[:LONG_WORDS])


def load_texts() -> Texts:
    """Return TREC QA's test questions where they are at hand, else docstrings."""
    folder = Path(os.environ.get("RERANKER_TEST_DATA", DEFAULT_DATA)) / "trecqa/test"
    if (folder / "corpus.jsonl.gz").is_file():
        queries = tuple(row["text"] for row in _rows(folder / "queries.jsonl.gz"))
        passages = dict.fromkeys(row["text"] for row in _rows(folder / "corpus.jsonl.gz"))
        return Texts("TREC QA test", queries, tuple(passages))
    built_in = load_pairs(None)
    pairs = built_in.measure + built_in.judge
    return Texts(
        built_in.name,
        tuple(dict.fromkeys(query for query, _ in pairs)),
        tuple(dict.fromkeys(document for _, document in pairs)),
    )


def _rows(file: Path) -> Iterator[dict[str, str]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _words(text: str) -> list[str]:
    return text.lower().split()


def _weights(passages: Sequence[str]) -> dict[str, float]:
    """Return each word's inverse document frequency."""
    counts = Counter(chain.from_iterable(set(_words(passage)) for passage in passages))
    return {word: log(len(passages) / count) for word, count in counts.items()}
