import builtins
import json
from pathlib import Path

import pytest

from demo.corpus import Passage, Places, environment_key, passages, read_texts, split, write_corpus
from demo.docstrings import docstrings_of

SOURCE = '''\
"""What the whole module is about."""

import elsewhere  # would fail if it were run

raise SystemExit


class Reader:
    """
    Reads things.

        indented
    """

    def __init__(self):
        """Open the thing to be read."""

    def _hidden(self):
        """Not for anyone to call, ever."""

    async def read(self):
        """Read one thing and return it."""

        def inner():
            """Out of reach for anyone."""


class _Private:
    """Not for anyone to use, ever."""

    def method(self):
        """Not for anyone to call, either."""


if elsewhere:
    def on_some_systems():
        """Only where it can be had."""
else:
    def elsewhere_only():
        """Where the other can't be had."""

try:
    pass
except ImportError:
    def fallback():
        """In place of what is missing."""


def bare():
    return None
'''


@pytest.fixture
def places(tmp_path: Path) -> Places:
    files = {
        "lib/reader.py": SOURCE,
        "lib/email/__init__.py": '"""Mail, as a package of modules."""',
        "lib/email/parts.py": '"""Parts of a mail, one after the other."""',
        "lib/email/copied.py": '"""Mail, as a package of modules."""',
        "lib/email/short.py": '"""Too short."""',
        "lib/_pydecimal.py": '"""Decimal numbers, in pure Python."""',
        "lib/_secret.py": '"""A module that nobody imports."""',
        "lib/test/test_reader.py": '"""Tests of the reader, of no use here."""',
        "lib/site-packages/other.py": '"""A package, which comes later."""',
        "lib/broken.py": '"""It can not be parsed."""\ndef (:',
        "lib/latin.py": '"""Bytes that are not UTF-8: é, whatever they are."""',
        "packages/numpy/__init__.py": '"""Numbers that come before the alphabet."""',
        "packages/alpha.py": '"""A module beside the packages."""',
        "packages/alpha-1.0.dist-info/x.py": '"""Not a package but its description."""',
        "packages/beta/tests/x.py": '"""Tests of beta, of no use here."""',
        "packages/beta/core.py": '"""The core of beta, whatever it is."""',
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="latin-1")
    return Places(tmp_path / "lib", tmp_path / "packages")


def test_docstrings_are_found_without_running_anything(places: Places) -> None:
    found = dict(docstrings_of(places.library / "reader.py", "reader"))
    assert found == {
        "reader": "What the whole module is about.",
        "reader.Reader": "Reads things.\n\n    indented",
        "reader.Reader.__init__": "Open the thing to be read.",
        "reader.Reader.read": "Read one thing and return it.",
        "reader.on_some_systems": "Only where it can be had.",
        "reader.elsewhere_only": "Where the other can't be had.",
        "reader.fallback": "In place of what is missing.",
    }


def test_what_can_not_be_parsed_gives_nothing(places: Places) -> None:
    assert not list(docstrings_of(places.library / "broken.py", "broken"))
    assert not list(docstrings_of(places.library / "latin.py", "latin"))
    assert not list(docstrings_of(places.library / "missing.py", "missing"))


def test_the_library_comes_whole_and_before_packages(places: Places) -> None:
    found = [each.doc_id for each in passages(places) if not _is_builtin(each)]
    assert found == [
        "decimal",
        "email",
        "email.parts",
        "reader",
        "reader.Reader",
        "reader.Reader.__init__",
        "reader.Reader.read",
        "reader.on_some_systems",
        "reader.elsewhere_only",
        "reader.fallback",
        "numpy",
        "alpha",
        "beta.core",
    ]


def _is_builtin(passage: Passage) -> bool:
    return passage.title.split(".")[0] in vars(builtins)


def test_built_in_methods_are_there(places: Places) -> None:
    found = {each.doc_id: each for each in passages(places)}
    assert "substrings" in found["str.split"].text
    assert "str.__len__" not in found


def test_no_id_and_no_docstring_twice(places: Places) -> None:
    found = [each.doc_id for each in passages(places)]
    assert len(set(found)) == len(found)
    assert "email" in found
    assert "email.copied" not in found
    assert "email.short" not in found


def test_long_docstrings_are_split_between_paragraphs() -> None:
    text = "one " * 10 + "\n\n" + "two " * 10 + "\n\n" + "three " * 10
    parts = list(split("m.f", text.strip(), chars=90))
    assert [(each.doc_id, each.title) for each in parts] == [("m.f", "m.f"), ("m.f#2", "m.f")]
    assert parts[0].text.count("one") == 10
    assert parts[0].text.count("two") == 10
    assert parts[1].text.count("three") == 10


def test_long_paragraphs_are_split_between_lines_and_nothing_is_lost() -> None:
    lines = [f"line {number} of a paragraph" for number in range(20)]
    parts = list(split("m.f", "\n".join(lines), chars=100))
    assert all(len(each.text) <= 100 for each in parts)
    assert "\n".join(each.text for each in parts).split("\n") == lines


def test_short_docstrings_stay_as_they_are() -> None:
    text = "Summary.\n\n    indented example\n\nEnd."
    assert list(split("m.f", text)) == [Passage("m.f", "m.f", text)]


def test_the_corpus_is_beir_and_bounded(places: Places, tmp_path: Path) -> None:
    corpus = tmp_path / "out" / "corpus.jsonl"
    assert write_corpus(corpus, places, limit=7) == 7
    lines = [json.loads(line) for line in corpus.read_text().splitlines()]
    assert [set(line) for line in lines] == [{"_id", "title", "text"}] * 7
    assert read_texts(corpus) == {line["_id"]: line["text"] for line in lines}
    assert [path.name for path in corpus.parent.iterdir()] == ["corpus.jsonl"]


def test_the_same_environment_has_the_same_key() -> None:
    assert environment_key() == environment_key()
