"""Pairs from the corpus itself: title ↔ body, first sentence ↔ the rest.

Such a pair is only kept where the retriever, asked with the one half, finds the document within the
first `top_k`: what it doesn't find is mostly a heading that says nothing ("Introduction"). The idea
is the round-trip consistency of Alberti et al., ACL 2019, and of Promptagator (Dai et al., 2023).
"""

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export.bars import progress
from training.annotate.pairs import Annotated
from training.errors import InputError
from training.label.mine import Finder, retrieved
from training.plan_data import CorpusPairsPlan
from training.seeds import seeded

_GZIP = b"\x1f\x8b"
# Ends with a stop and goes on with what begins a sentence; CJK stops need no space after them.
_FIRST_SENTENCE = re.compile(
    r"(.+?[.!?])\s+(?=[\"'(]?[A-Z0-9])|(.+?[\u3002\uff01\uff1f])", re.DOTALL
)
_MAX_QUERY_CHARS = 400
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


@dataclass(frozen=True, slots=True)
class Made:
    """A question made of a document, and what of it is left to answer it."""

    kind: str
    doc_id: str
    query: str
    text: str


@dataclass
class CorpusUsage:
    """How many pairs there were, and how many the retriever left."""

    made: int = 0
    kept: dict[str, int] = field(default_factory=dict)
    not_found: int = 0


def corpus_pairs(
    plan: CorpusPairsPlan, finder: Finder, weight: float, seed: int, usage: CorpusUsage
) -> list[Annotated]:
    """Return pairs that the retriever agrees with; raises InputError."""
    made = sample(list(make_pairs(plan)), plan.max_pairs, seed)
    if not made:
        raise InputError(
            f"{plan.path} gives no pairs: its documents need a title, or more than one sentence "
            "(annotate.corpus: min_query_words, min_document_words)"
        )
    usage.made = len(made)
    kept: list[Annotated] = []
    queries = [(str(place), one.query) for place, one in enumerate(made)]
    with progress("checking pairs with the retriever", len(queries)) as advance:
        for place, hits in retrieved(finder, queries, plan.top_k, advance):
            one = made[int(place)]
            if any(hit.doc_id == one.doc_id for hit in hits):
                name = f"corpus:{one.kind}"
                kept.append(Annotated(one.query, None, one.doc_id, one.text, 1.0, weight, name))
                usage.kept[one.kind] = usage.kept.get(one.kind, 0) + 1
    usage.not_found = len(made) - len(kept)
    return kept


def sample(made: Sequence[Made], count: int, seed: int) -> list[Made]:
    """Draw without bias to a part of the corpus; a question that fits several documents is out."""
    times: dict[str, int] = {}
    for one in made:
        times[one.query] = times.get(one.query, 0) + 1
    single = [one for one in made if times[one.query] == 1]
    if len(single) <= count:
        return single
    places = sorted(seeded(seed, "corpus").sample(range(len(single)), count))
    return [single[place] for place in places]


def make_pairs(plan: CorpusPairsPlan) -> Iterator[Made]:
    """Give the pairs of each document; raises InputError."""
    for document in _documents(plan.path):
        title, text = document.get("title") or "", document.get("text") or ""
        halves = {"title": (title, text), "first_sentence": first_sentence(text)}
        for kind in plan.pairs:
            query, rest = (" ".join(half.split()) for half in halves[kind])
            long_enough = (
                _words(query) >= plan.min_query_words and _words(rest) >= plan.min_document_words
            )
            if long_enough and len(query) <= _MAX_QUERY_CHARS:
                yield Made(kind, str(document["_id"]), query, rest)


def first_sentence(text: str) -> tuple[str, str]:
    """Return the first sentence and the rest; two empty ones where there is only one."""
    found = _FIRST_SENTENCE.match(text.strip())
    if found is None:
        return "", ""
    return found.group(0).strip(), text.strip()[found.end() :].strip()


def _words(text: str) -> int:
    """Count words; two characters of a script without spaces count as one."""
    return len(_CJK.sub("", text).split()) + len(_CJK.findall(text)) // 2


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
        with (
            gzip.open(path, "rt", encoding="utf-8")
            if packed
            else path.open(encoding="utf-8") as lines
        ):
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _parse(path, number, line)
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise InputError(f"{path} (annotate.corpus.path) can't be read: {error}") from None


def _parse(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        document = json.loads(line)
        known = isinstance(document, dict) and "_id" in document
    except (ValueError, RecursionError):
        known = False
    if not known:
        raise InputError(f"{path}, line {number}: not a document in BEIR's format (with _id)")
    for name in ("title", "text"):
        if not isinstance(document.get(name), str | None):
            raise InputError(f"{path}, line {number}: {name} is not a string")
    return dict(document)
