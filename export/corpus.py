"""Reads a corpus, or a whole test collection, in BEIR's format; says which line is wrong.

A collection is a folder with `corpus.jsonl[.gz]`, `queries.jsonl[.gz]` and `qrels.tsv`.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from export.errors import ExportError

_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SURROGATES = re.compile("[\ud800-\udfff]")
_SPLITS = ("train", "dev", "test")
_QRELS_HEADER = ["query-id", "corpus-id", "score"]


class CorpusError(ExportError):
    """A corpus or collection can't be read; the message names file and line."""


@dataclass(frozen=True)
class CorpusDocument:
    """A document: its id, and its title and text as the models read them."""

    doc_id: str
    text: str


@dataclass(frozen=True)
class Collection:
    """A test collection. `judgements` maps query id → document id → grade, as in the file."""

    name: str
    corpus: Path
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]


def read_corpus(path: Path) -> Iterator[CorpusDocument]:
    """Give the documents of a `.jsonl` or `.jsonl.gz` file, one at a time; raises CorpusError.

    `_id` is a string or an integer and occurs once; `text` and `title` are strings, of which one
    may be missing, null or empty. Where both are there, the document is `title + " " + text`.
    Half of a surrogate pair, which no UTF-8 text can hold, becomes U+FFFD in texts and is an error
    in ids; null characters stay.
    """
    for where, doc_id, fields in _read_entries(path):
        if "text" not in fields and "title" not in fields:
            raise CorpusError(f"{where}: the document has no text: give it one, or a title")
        parts = [_text(where, fields, key) for key in ("title", "text")]
        yield CorpusDocument(doc_id, " ".join(part for part in parts if part))


def read_queries(path: Path) -> dict[str, str]:
    """Return id → text of `queries.jsonl[.gz]`; raises CorpusError."""
    queries = {}
    for where, query_id, fields in _read_entries(path):
        queries[query_id] = _text(where, fields, "text")
        if not queries[query_id].strip():
            raise CorpusError(f"{where}: the query has no text")
    return queries


def read_ids(path: Path) -> set[str]:
    """Return the ids of a file: one a line, or `_id` of each object of a `.jsonl[.gz]` file.

    Raises CorpusError.
    """
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return {doc_id for _, doc_id, _ in _read_entries(path)}
    lines = (_decode(f"{path}, line {number}", line) for number, line in _read_lines(path))
    return {line.rstrip("\r\n") for line in lines}


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Return query id → document id → grade of a `qrels.tsv` with a header; raises CorpusError."""
    judgements: dict[str, dict[str, int]] = {}
    for number, line in _read_lines(path):
        fields = _decode(f"{path}, line {number}", line).rstrip("\r\n").split("\t")
        if number == 1 and fields == _QRELS_HEADER:
            continue
        if number == 1:
            raise CorpusError(f"{path}, line 1: the header must be {' '.join(_QRELS_HEADER)}")
        if len(fields) != len(_QRELS_HEADER) or not re.fullmatch(r"-?\d+", fields[2]):
            raise CorpusError(f"{path}, line {number}: not query id, document id and whole number")
        judgements.setdefault(fields[0], {})[fields[1]] = int(fields[2])
    return judgements


def write_qrels(path: Path, judgements: Mapping[str, Mapping[str, int]]) -> None:
    """Write what `read_qrels` reads; raises CorpusError for an id that it could not read.

    Fields are plain: there are no quotes around them, and none in an id mean anything.
    """
    with path.open("w", encoding="utf-8", newline="\n") as table:
        table.write("\t".join(_QRELS_HEADER) + "\n")
        for query_id, grades in judgements.items():
            for doc_id, grade in grades.items():
                for one in (query_id, doc_id):
                    if "\t" in one or "\n" in one:
                        raise CorpusError(f"{path}: the id {one!r} has a tab or a line's end")
                table.write(f"{query_id}\t{doc_id}\t{grade}\n")


def open_collection(folder: Path) -> Collection:
    """Read the queries and judgements of a BEIR folder; raises CorpusError."""
    if not folder.is_dir():
        raise CorpusError(f"{folder} is not a folder")
    corpus = _find(folder, "corpus.jsonl")
    queries = read_queries(_find(folder, "queries.jsonl"))
    judgements = read_qrels(_find(folder, "qrels.tsv"))
    if unknown := sorted(judgements.keys() - queries.keys()):
        raise CorpusError(f"{folder}: qrels.tsv judges query {unknown[0]!r}, which is nowhere")
    if not judgements:
        raise CorpusError(f"{folder / 'qrels.tsv'} has no judgements")
    return Collection(_folder_name(folder.resolve()), corpus, queries, judgements)


def collection_name(corpus: Path) -> str:
    """Return a name for a corpus: that of its file, or of its folder where that says no more."""
    stem = corpus.name.split(".")[0]
    return stem if stem != "corpus" else _folder_name(corpus.resolve().parent)


def _folder_name(folder: Path) -> str:
    """Return `collection/split` where the folder is only a part of a collection."""
    return f"{folder.parent.name}/{folder.name}" if folder.name in _SPLITS else folder.name


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise CorpusError(f"{folder} has no {name}")


def _read_entries(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Give (where, id, fields) of each line; each id once."""
    seen: set[str] = set()
    for number, line in _read_lines(path):
        where = f"{path}, line {number}"
        fields = _parse(where, line)
        entry_id = _id(where, fields)
        if entry_id in seen:
            raise CorpusError(
                f"{where}: the id {entry_id!r} was there before: give each an _id of its own"
            )
        seen.add(entry_id)
        yield where, entry_id, fields


def _read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Give the number and the bytes of each line that isn't blank."""
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, start=1):
                content = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
                if content.strip():
                    yield number, content
    except FileNotFoundError:
        raise CorpusError(f"{path} does not exist") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise CorpusError(
            f"{path}, after line {number}: the gzip file is damaged: make it again"
        ) from None
    except OSError as error:
        raise CorpusError(f"{path} can't be read: {error.strerror or error}") from None


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        packed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    return cast("BinaryIO", gzip.open(path)) if packed else path.open("rb")


def _decode(where: str, line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{where}: byte {error.start + 1} is not UTF-8: convert the file"
        ) from None


def _parse(where: str, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(_decode(where, line))
    except json.JSONDecodeError as error:
        raise CorpusError(f"{where}: not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, or endless nesting
        raise CorpusError(f"{where}: not a JSON object of strings") from None
    if not isinstance(value, dict):
        raise CorpusError(f"{where}: not a JSON object")
    return value


def _id(where: str, fields: dict[str, Any]) -> str:
    value = fields.get("_id")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise CorpusError(f"{where}: it has no _id: give it a string that is not empty")
    if _SURROGATES.search(value):
        raise CorpusError(f"{where}: the _id has half of a surrogate pair, which UTF-8 can't hold")
    return value


def _text(where: str, fields: dict[str, Any], key: str) -> str:
    value = fields.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise CorpusError(f"{where}: {key} is not a string")
    return _SURROGATES.sub("\ufffd", value)
