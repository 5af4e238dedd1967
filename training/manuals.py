"""Passages from the manual pages that are installed: long texts, free to read on any machine.

A manual's one-line purpose asks for its description, a section's sentence for the rest of it.
"""

import gzip
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

from training.passages import Passage
from training.roff import paragraphs

MAX_WORDS, MIN_WORDS = 200, 25
_MAX_PAGE_BYTES = 200_000
_PAGES_OF_ONE_TOOL = 30  # one tool's subcommands would drown everything else
_SENTENCE = re.compile(r"(?<=[a-z0-9)][.;])\s+(?=[A-Z])")
_LEFT_OUT = {"Name", "Synopsis", "See Also", "Author", "Authors", "Copyright", "Bugs", "Files"}


def _pieces(page: list[tuple[str, str]]) -> Iterator[str]:
    """A page's sections as pieces of at most `MAX_WORDS` words."""
    heading, words = "", list[str]()
    for section, paragraph in page:
        new = paragraph.split()
        if section != heading or len(words) + len(new) > MAX_WORDS:
            yield " ".join(words)
            heading, words = section, []
        if section not in _LEFT_OUT:
            words += new[:MAX_WORDS]
    yield " ".join(words)


def split_off(text: str, rng: Random) -> tuple[str, str] | None:
    """A sentence that says enough to ask with, and the text without it; None without such."""
    sentences = _SENTENCE.split(text)
    fit = [n for n, s in enumerate(sentences) if 6 <= len(s.split()) <= 30]
    if len(sentences) < 3 or not fit:
        return None
    n = rng.choice(fit)
    return sentences[n], " ".join(sentences[:n] + sentences[n + 1 :])


def as_typed(sentence: str, rng: Random) -> str:
    """Some words of a sentence in their order, as people type them, or the whole of it."""
    words = sentence.rstrip(".;").split()
    if rng.random() < 0.4 or len(words) < 8:
        return " ".join(words)
    start = rng.randrange(len(words) - 5)
    return " ".join(words[start : start + rng.randint(5, 10)])


def _manual(path: Path, rng: Random) -> Iterator[Passage]:
    page = list(paragraphs(gzip.decompress(path.read_bytes()).decode(errors="replace")))
    said = next((text for section, text in page if section == "Name"), "")
    name, _, purpose = said.partition(" - ")
    for number, text in enumerate(piece for piece in _pieces(page) if piece):
        if len(text.split()) < MIN_WORDS:
            continue
        if number == 0 and 3 <= len(purpose.split()) <= 25:
            asked = rng.choice(["{}", "how to {}", "{}?"]).format(purpose[0].lower() + purpose[1:])
            yield Passage("manuals", f"{name} {text}" if rng.random() < 0.5 else text, (asked,))
        elif parts := split_off(text, rng):
            yield Passage("manuals", parts[1], (as_typed(parts[0], rng),))


def manual_passages(folder: Path, rng: Random, pages: int = 2_500) -> list[Passage]:
    """Passages of `pages` English pages drawn from a `man` folder, no text twice."""
    found: list[Passage] = []
    seen: set[str] = set()
    paths = [p for p in sorted(folder.glob("man[1-8]/*.gz")) if not p.is_symlink()]
    rng.shuffle(paths)
    read = Counter[str]()
    for path in paths:
        tool = re.split(r"[-._]", path.name)[0]
        if read.total() == pages or read[tool] == _PAGES_OF_ONE_TOOL:
            continue
        if not 500 < path.stat().st_size < _MAX_PAGE_BYTES:
            continue
        read[tool] += 1
        for passage in _manual(path, rng):
            if passage.text[:150] not in seen:
                seen.add(passage.text[:150])
                found.append(passage)
    return found
