"""Step 6: the pairs on which ranges are measured and quantized scores are compared.

Without pairs of the user's own they come from the docstrings of Python's standard library, which
every machine has: the first paragraph asks, its own text and its neighbours' answer.
"""

import ast
import json
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from export.errors import CalibrationError

Pair = tuple[str, str]
T = TypeVar("T")

BUILT_IN = "standard library docstrings"
MAX_PAIRS = 480

_MODULES = (
    "argparse ast asyncio/events bisect calendar cmd codecs collections/__init__ configparser "
    "contextlib copy csv datetime decimal difflib doctest email/message enum fractions functools "
    "gzip heapq html/parser http/client imaplib inspect ipaddress json/__init__ logging/__init__ "
    "mailbox os pathlib pickle random re shutil socket statistics subprocess tarfile tempfile "
    "textwrap threading turtle typing unittest/case urllib/request uuid zipfile"
)
_QUERIES = 48
_MAX_QUERY_CHARACTERS = 160


@dataclass(frozen=True)
class CalibrationPairs:
    """Pairs in two parts without a query in common: to measure ranges, and to choose and judge."""

    name: str
    measure: tuple[Pair, ...]
    judge: tuple[Pair, ...]


def load_pairs(file: Path | None) -> CalibrationPairs:
    """Read JSON lines with `query` and `document`, or make the built-in pairs.

    Of more than 480 pairs, 480 evenly spaced ones are used. Raises CalibrationError.
    """
    if file is None:
        return split(BUILT_IN, list(_built_in()))
    return split(file.name, list(_read(file)))


def split(name: str, pairs: Sequence[Pair]) -> CalibrationPairs:
    """Part pairs by their queries, in turn; raises CalibrationError where there are too few."""
    pairs = spread(pairs, MAX_PAIRS)
    queries = {query: number for number, query in enumerate(dict(pairs))}
    measure = tuple(pair for pair in pairs if queries[pair[0]] % 2 == 0)
    judge = tuple(pair for pair in pairs if queries[pair[0]] % 2 == 1)
    if not measure or not judge:
        raise CalibrationError(f"{name} has too few pairs: give at least two queries")
    return CalibrationPairs(name, measure, judge)


def spread(items: Sequence[T], most: int) -> list[T]:
    """Return at most so many, evenly spaced."""
    step = max(1.0, len(items) / most)
    return [items[int(number * step)] for number in range(min(len(items), most))]


def _read(file: Path) -> Iterator[Pair]:
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{file} can't be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            query, document = fields["query"], fields["document"]
        except (ValueError, KeyError, TypeError):
            query = document = None
        if not isinstance(query, str) or not isinstance(document, str):
            raise CalibrationError(
                f'{file}, line {number}: each line must be {{"query": "…", "document": "…"}}'
            )
        yield query, document


def _built_in() -> Iterator[Pair]:
    """Give each query its own text and five others, whole and as one sentence in turn."""
    texts = questions_and_texts()
    if len(texts) < _QUERIES:
        raise CalibrationError("this Python has no docstrings: give a --calibration file")
    spacing = len(texts) // _QUERIES
    for number in range(_QUERIES):
        here = number * spacing
        query, own = texts[here]
        yield query, own
        yield query, _first_sentence(own)
        for distance in (1, 2, spacing, 3 * spacing):
            other = texts[(here + distance) % len(texts)][1]
            yield query, other if distance % 2 else _first_sentence(other)


@cache
def questions_and_texts() -> tuple[Pair, ...]:
    """Return the first paragraph of each docstring of some length, and the rest of it."""
    return tuple(_questions_and_texts())


def _questions_and_texts() -> Iterator[Pair]:
    for docstring in _docstrings():
        first, _, rest = docstring.partition("\n\n")
        query, text = " ".join(first.split()), " ".join(rest.split())
        if 20 <= len(query) <= _MAX_QUERY_CHARACTERS and len(text) >= 40:
            yield query, text


def _docstrings() -> Iterator[str]:
    """Read docstrings from source files, so that no module has to be imported."""
    library = Path(sysconfig.get_path("stdlib"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for name in _MODULES.split():
        file = library / f"{name}.py"
        if not file.is_file():
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, kinds) and (docstring := ast.get_docstring(node)):
                yield docstring


def _first_sentence(text: str) -> str:
    return text.split(". ", 1)[0]


def by_query(pairs: Sequence[Pair]) -> dict[str, list[int]]:
    """Return the positions of each query's pairs."""
    groups: dict[str, list[int]] = {}
    for position, (query, _) in enumerate(pairs):
        groups.setdefault(query, []).append(position)
    return groups
