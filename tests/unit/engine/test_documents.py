import json
from pathlib import Path

import pytest

from engine.documents import IDS, TEXTS, Documents, DocumentsWriter
from engine.errors import BundleError

STRINGS = [
    "plain",
    "",
    "emoji 🚀👩‍👩‍👧",
    "漢字 かな",
    "null \x00 inside",
    "line\nbreak\r\n",
    "é" * 5000,
]


def write(folder: Path, entries: list[tuple[str, str]]) -> Documents:
    with DocumentsWriter(folder) as writer:
        for doc_id, text in entries:
            writer.append(doc_id, text)
    return Documents.load(folder)


def test_every_string_comes_back_as_it_was(tmp_path: Path) -> None:
    documents = write(tmp_path, [(f"id {text}", text) for text in STRINGS])

    assert len(documents) == len(STRINGS)
    assert [documents.text(position) for position in range(len(STRINGS))] == STRINGS
    assert [documents.id(position) for position in range(len(STRINGS))] == [
        f"id {text}" for text in STRINGS
    ]


def test_a_store_may_be_empty(tmp_path: Path) -> None:
    documents = write(tmp_path, [])

    assert len(documents) == 0
    with pytest.raises(IndexError):
        documents.text(0)


def test_a_store_of_empty_texts_has_a_length(tmp_path: Path) -> None:
    documents = write(tmp_path, [("a", ""), ("b", "")])

    assert [documents.text(position) for position in range(len(documents))] == ["", ""]


@pytest.mark.parametrize("position", [-1, 2])
def test_positions_outside_are_errors(tmp_path: Path, position: int) -> None:
    documents = write(tmp_path, [("a", "x"), ("b", "y")])

    with pytest.raises(IndexError):
        documents.id(position)


def test_offsets_are_little_endian_uint64(tmp_path: Path) -> None:
    write(tmp_path, [("a", "xyz"), ("b", "é")])

    offsets = (tmp_path / TEXTS[1]).read_bytes()

    assert [int.from_bytes(offsets[at : at + 8], "little") for at in (0, 8, 16)] == [0, 3, 5]
    assert len(offsets) == 24


@pytest.mark.parametrize(
    "offsets",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x00" * 7, id="not a multiple of 8"),
        pytest.param((1).to_bytes(8, "little") + (4).to_bytes(8, "little"), id="not from 0"),
        pytest.param((0).to_bytes(8, "little") + (9).to_bytes(8, "little"), id="beyond the end"),
        pytest.param(
            b"".join(end.to_bytes(8, "little") for end in (0, 3, 1, 4)), id="not ascending"
        ),
    ],
)
def test_files_that_do_not_belong_together_are_refused(tmp_path: Path, offsets: bytes) -> None:
    write(tmp_path, [("a", "x"), ("b", "y")])
    (tmp_path / IDS[0]).write_bytes(b"abcd")
    (tmp_path / IDS[1]).write_bytes(offsets)

    with pytest.raises(BundleError):
        Documents.load(tmp_path)


def test_half_of_a_surrogate_pair_is_not_written(tmp_path: Path) -> None:
    with DocumentsWriter(tmp_path) as writer, pytest.raises(UnicodeEncodeError):
        writer.append("a", json.loads(r'"\ud83d"'))
