"""Manual pages and package descriptions as passages."""

import gzip
from pathlib import Path
from random import Random

import pytest

from training.manuals import manual_passages, split_off
from training.packages import package_passages, read_lists
from training.passages import Passage
from training.roff import paragraphs, plain
from training.sources import PASSAGE_SOURCES

SENTENCES = [
    f"Sentence number {word} says what the option {word} does to each of the files."
    for word in ("one", "two", "three", "four", "five")
]
PAGE = rf"""'\" t
.TH READ 1
.SH NAME
read \- show a file line by line
.SH SYNOPSIS
.B read
[\fIoption\fR]
.SH DESCRIPTION
.B read
opens \fIeach file\fP and \(lqreads\(rq it.
{" ".join(SENTENCES)}
.nf
  a listing that is no prose
.fi
.PP
Another paragraph, with \-\-all of it.
.SH "SEE ALSO"
.BR open (2)
"""


def test_a_page_is_read_section_by_section() -> None:
    found = list(paragraphs(PAGE))
    assert found[0] == ("Name", "read - show a file line by line")
    assert found[2][0] == "Description"
    assert found[2][1].startswith("read opens each file and reads it. Sentence number one")
    assert found[3] == ("Description", "Another paragraph, with --all of it.")
    assert not any("listing" in text for _, text in found)


def test_escapes_become_what_they_show() -> None:
    assert plain(r"\fBbold\fR and \-\-flag, don\(aqt") == "bold and --flag, don't"
    assert plain(r"back\e slash\&.") == r"back\ slash."


def write_page(folder: Path, name: str, text: str) -> None:
    (folder / "man1").mkdir(parents=True, exist_ok=True)
    body = text.encode() + b'\n.\\" ' + Random(name).randbytes(1000).hex().encode()
    (folder / "man1" / f"{name}.1.gz").write_bytes(gzip.compress(body))


def test_a_purpose_asks_for_its_description(tmp_path: Path) -> None:
    write_page(tmp_path, "read", PAGE)
    (passage,) = manual_passages(tmp_path, Random(1))
    assert passage.source == "manuals"
    assert "show a file line by line" in passage.queries[0]
    assert "number three" in passage.text
    assert "open (2)" not in passage.text


def test_one_tool_does_not_drown_the_others(tmp_path: Path) -> None:
    for number in range(50):
        write_page(tmp_path, f"cloud-{number}", PAGE.replace("Sentence", f"Word {number}"))
    write_page(tmp_path, "read", PAGE)
    found = manual_passages(tmp_path, Random(1))
    assert len(found) == 31
    assert found == manual_passages(tmp_path, Random(1))


def test_a_sentence_asks_for_the_rest() -> None:
    parts = split_off(" ".join(SENTENCES), Random(1))
    assert parts is not None
    assert parts[0] in SENTENCES
    assert parts[0] not in parts[1]
    assert len(parts[1].split()) == 4 * len(SENTENCES[0].split())
    assert split_off("One sentence only.", Random(1)) is None


def test_short_descriptions_ask_for_long_ones() -> None:
    long = "\n ".join(["many words about what it is good for"] * 5)
    described = f"reads lines\n {long}\n .\n more"
    status = (
        f"Package: a\nDescription: {described}\nHomepage: h\n\n"
        "Package: b\nDescription: too little\n short\n\nPackage: c\nVersion: 1\n"
    )
    lists = f"Package: a\nDescription-md5: 0\nDescription-en: {described}\n\n"
    for text in (status, lists, lists + lists.replace("Package: a", "Package: a-data")):
        (passage,) = package_passages(text, Random(1))
        _check(passage)


def _check(passage: Passage) -> None:
    assert passage.queries == ("reads lines",)
    assert passage.text.endswith("good for more")
    assert "\n" not in passage.text
    assert {"manuals", "packages"} <= PASSAGE_SOURCES.keys()


def test_a_sentence_of_a_description_asks_for_the_rest() -> None:
    entries = (
        f"Package: p{number}\nDescription-en: short {number}\n Package {number}. "
        + " ".join(SENTENCES)
        for number in range(20)
    )
    found = package_passages("\n\n".join(f"{entry}\n" for entry in entries), Random(1))
    short = [passage for passage in found if passage.queries[0].startswith("short ")]
    assert 0 < len(short) < len(found) == 20
    assert all(passage.queries[0] not in passage.text for passage in found)


def test_damaged_lists_are_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "helper"
    helper.write_text("#!/bin/sh\necho it is damaged >&2\nexit 100\n")
    helper.chmod(0o755)
    monkeypatch.setattr("training.packages._APT_HELPER", str(helper))
    (tmp_path / "main_i18n_Translation-en").write_bytes(b"")
    with pytest.raises(OSError, match="can't be read: it is damaged"):
        read_lists(tmp_path)


def test_apt_says_what_its_lists_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "helper"
    helper.write_text('#!/bin/sh\nshift\ncat "$@"\n')
    helper.chmod(0o755)
    monkeypatch.setattr("training.packages._APT_HELPER", str(helper))
    for name in ("a", "b"):
        (tmp_path / f"{name}_i18n_Translation-en").write_text(f"{name}\n")
    assert read_lists(tmp_path) == "a\nb\n"


def test_without_lists_there_are_no_descriptions(tmp_path: Path) -> None:
    assert read_lists(tmp_path) == ""
