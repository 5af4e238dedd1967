import gzip
import json
from pathlib import Path

import pytest

from export.corpus import (
    CorpusError,
    collection_name,
    open_collection,
    read_corpus,
    read_qrels,
    read_queries,
    write_qrels,
)

GOOD = b'{"_id": "a", "text": "one"}\n'


def read(path: Path) -> list[tuple[str, str]]:
    return [(document.doc_id, document.text) for document in read_corpus(path)]


@pytest.mark.parametrize(
    ("line", "document"),
    [
        ({"_id": "a", "text": "body"}, ("a", "body")),
        ({"_id": "a", "title": "Head", "text": "body"}, ("a", "Head body")),
        ({"_id": "a", "title": "", "text": "body"}, ("a", "body")),
        ({"_id": "a", "title": None, "text": "body"}, ("a", "body")),
        ({"_id": "a", "title": "Head", "text": ""}, ("a", "Head")),
        ({"_id": "a", "title": "Head"}, ("a", "Head")),
        ({"_id": "a", "title": "", "text": ""}, ("a", "")),
        ({"_id": 17, "text": "body", "metadata": {"url": 1}}, ("17", "body")),
        ({"_id": " spaced id ", "text": " kept as it is "}, (" spaced id ", " kept as it is ")),
        ({"_id": "漢", "text": "🚀 null \x00 line\n"}, ("漢", "🚀 null \x00 line\n")),
        ({"_id": "a", "text": "half \ud83d of a pair"}, ("a", "half \ufffd of a pair")),
    ],
)
def test_what_becomes_of_a_line(
    tmp_path: Path, line: dict[str, object], document: tuple[str, str]
) -> None:
    for escaped in (True, False) if "half" not in str(line) else (True,):
        file = tmp_path / "corpus.jsonl"
        file.write_text(json.dumps(line, ensure_ascii=escaped), encoding="utf-8")

        assert read(file) == [document]


def test_blank_lines_and_a_byte_order_mark_do_not_matter(tmp_path: Path) -> None:
    file = tmp_path / "corpus.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD + b"\n  \r\n" + b'{"_id": "b", "text": "two"}\r\n')

    assert read(file) == [("a", "one"), ("b", "two")]


@pytest.mark.parametrize("name", ["corpus.jsonl.gz", "corpus.jsonl"])
def test_gzip_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(GOOD))

    assert read(tmp_path / name) == [("a", "one")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"_id": "b", "text": ', "line 2: not JSON: Expecting value at column"),
        (b"b\ttwo", "line 2: not JSON"),
        (b'["b", "two"]', "line 2: not a JSON object"),
        (b"[" * 100_000, "line 2: not "),
        (b'{"_id": ' + b"9" * 5000 + b', "text": "two"}', "line 2: not "),
        (b'{"text": "two"}', "line 2: it has no _id"),
        (b'{"_id": "", "text": "two"}', "line 2: it has no _id"),
        (b'{"_id": null, "text": "two"}', "line 2: it has no _id"),
        (b'{"_id": true, "text": "two"}', "line 2: it has no _id"),
        (b'{"_id": 1.5, "text": "two"}', "line 2: it has no _id"),
        (b'{"_id": "\\ud83d", "text": "two"}', "line 2: the _id has half of a surrogate pair"),
        (b'{"_id": "a", "text": "two"}', "line 2: the id 'a' was there before"),
        (b'{"_id": "b"}', "line 2: the document has no text"),
        (b'{"_id": "b", "text": 5}', "line 2: text is not a string"),
        (b'{"_id": "b", "title": ["x"], "text": ""}', "line 2: title is not a string"),
        (b'{"_id": "b", "text": "t\xff"}', "line 2: byte 24 is not UTF-8"),
        (b'{"_id": "b", "text": "\xed\xa0\xbd"}', "line 2: byte 23 is not UTF-8"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    file = tmp_path / "corpus.jsonl"
    file.write_bytes(GOOD + line + b"\n")

    with pytest.raises(CorpusError) as error:
        read(file)

    assert message in str(error.value)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.jsonl.gz"
    damaged.write_bytes(gzip.compress(GOOD * 100)[:-12])
    flipped = bytearray(gzip.compress(GOOD))
    flipped[-8] ^= 0xFF
    (tmp_path / "flipped.gz").write_bytes(flipped)

    for path, message in (
        (tmp_path / "nowhere.jsonl", "does not exist"),
        (tmp_path, "can't be read"),
        (damaged, "damaged"),
        (tmp_path / "flipped.gz", "damaged"),
    ):
        with pytest.raises(CorpusError, match=message):
            read(path)


def write_collection(folder: Path, **files: str) -> Path:
    contents = {
        "corpus.jsonl": '{"_id": "d", "text": "x"}',
        "queries.jsonl": '{"_id": "q", "text": "y"}',
        "qrels.tsv": "query-id\tcorpus-id\tscore\nq\td\t1\n",
    }
    folder.mkdir(parents=True)
    for name, content in (
        contents | {key.replace("_", "."): v for key, v in files.items()}
    ).items():
        (folder / name).write_text(content)
    return folder


def test_a_collection(tmp_path: Path) -> None:
    collection = open_collection(write_collection(tmp_path / "toy"))

    assert collection.name == "toy"
    assert collection.queries == {"q": "y"}
    assert collection.judgements == {"q": {"d": 1}}
    assert collection.corpus == tmp_path / "toy/corpus.jsonl"


def test_names(tmp_path: Path) -> None:
    assert open_collection(write_collection(tmp_path / "toy/dev")).name == "toy/dev"
    assert collection_name(tmp_path / "toy/corpus.jsonl.gz") == "toy"
    assert collection_name(tmp_path / "toy/help-pages.jsonl.gz") == "help-pages"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"qrels_tsv": "q\td\t1\n"}, "line 1: the header must be query-id corpus-id score"),
        ({"qrels_tsv": "query-id\tcorpus-id\tscore\nq d 1\n"}, "line 2: not query id"),
        ({"qrels_tsv": "query-id\tcorpus-id\tscore\nq\td\t0.5\n"}, "line 2: not query id"),
        ({"qrels_tsv": "query-id\tcorpus-id\tscore\nz\td\t1\n"}, "judges query 'z'"),
        ({"qrels_tsv": "query-id\tcorpus-id\tscore\n"}, "has no judgements"),
        ({"queries_jsonl": '{"_id": "q", "text": " "}'}, "line 1: the query has no text"),
        ({"queries_jsonl": '{"_id": "q"}'}, "line 1: the query has no text"),
    ],
)
def test_a_wrong_collection_is_named(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        open_collection(write_collection(tmp_path / "toy", **files))


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels.tsv"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_collection(tmp_path / "toy")
    (folder / name).unlink()

    with pytest.raises(CorpusError, match=f"toy has no {name}"):
        open_collection(folder)


def test_the_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="is not a folder"):
        open_collection(tmp_path / "nowhere")


def test_grades_may_be_zero_and_negative(tmp_path: Path) -> None:
    file = tmp_path / "qrels.tsv"
    file.write_text("query-id\tcorpus-id\tscore\r\nq\ta\t0\r\nq\tb\t-1\r\nr\ta\t3\r\n")

    assert read_qrels(file) == {"q": {"a": 0, "b": -1}, "r": {"a": 3}}


def test_half_of_a_surrogate_pair_in_a_query(tmp_path: Path) -> None:
    file = tmp_path / "queries.jsonl"
    file.write_text('{"_id": "q", "text": "a\\ud83d"}')

    assert read_queries(file) == {"q": "a\ufffd"}


def test_judgements_are_read_as_they_were_written(tmp_path: Path) -> None:
    judgements = {'"q': {'say "d"': 2, "d\r": -1, " d ": 0}, "漢": {"\ufeffd": 1}}

    write_qrels(tmp_path / "qrels.tsv", judgements)

    assert read_qrels(tmp_path / "qrels.tsv") == judgements


@pytest.mark.parametrize("judgements", [{"q\t": {"d": 1}}, {"q": {"d\ne": 1}}])
def test_an_id_that_a_table_cannot_hold_is_not_written(
    tmp_path: Path, judgements: dict[str, dict[str, int]]
) -> None:
    with pytest.raises(CorpusError, match="has a tab or a line's end"):
        write_qrels(tmp_path / "qrels.tsv", judgements)
