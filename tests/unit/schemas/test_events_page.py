"""`docs/events.md` shows the files that are tested, and says what the code does."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from schemas.events import QueryEvent
from worker.decode import decode
from worker.errors import BadRecordError
from worker.records import Partition, Record
from worker.reranker import NO_CANDIDATES
from worker.settings import KafkaSettings, LimitSettings

REPOSITORY = Path(__file__).resolve().parents[3]
PAGE = (REPOSITORY / "docs" / "events.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^<!-- (\S+) -->\n```\w+\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
LINKS = re.findall(r"\]\((\.\./[^)#]+)\)", PAGE)


@pytest.mark.parametrize(("path", "text"), BLOCKS, ids=[path for path, _ in BLOCKS])
def test_a_block_is_the_file_that_it_names(path: str, text: str) -> None:
    assert text == (REPOSITORY / path).read_text(encoding="utf-8")


def test_no_block_is_without_a_file_and_every_example_program_is_shown() -> None:
    assert PAGE.count("\n```json") + PAGE.count("\n```python") == len(BLOCKS)
    shown = {Path(path) for path, _ in BLOCKS}
    programs = (REPOSITORY / "docs" / "examples").glob("*.py")
    assert {path.relative_to(REPOSITORY) for path in programs} <= shown


@pytest.mark.parametrize("link", LINKS)
def test_links_lead_somewhere(link: str) -> None:
    assert (REPOSITORY / "docs" / link).exists()


def test_topics_are_the_defaults() -> None:
    for topic in KafkaSettings().topics.model_dump().values():
        assert f"| `{topic}` |" in PAGE


def test_every_field_of_a_query_is_explained() -> None:
    for name in QueryEvent.model_fields:
        assert f"| `{name}` |" in PAGE


def event(**fields: Any) -> bytes:
    return json.dumps({"query_id": "q", "query": "hi", **fields}).encode()


def candidates(*changes: dict[str, Any]) -> bytes:
    return event(candidates=[{"doc_id": "d", "text": "t", **each} for each in changes])


# The message as it stands on the page; "…" there stands for anything.
REFUSED: list[tuple[str, bytes | None]] = [
    ("the record has no value (a tombstone asks nothing)", None),
    ("Invalid JSON: …", b"hello"),
    ("Invalid JSON: …", event() + event()),
    ("Invalid JSON: …", b"\xef\xbb\xbf" + event()),
    ("Invalid JSON: …", event(query="X").replace(b"X", b"\xff")),
    ("Invalid JSON: …", event().decode().encode("utf-16")),
    ("Input should be an object", b"[]"),
    (
        "Invalid JSON: recursion limit exceeded …",
        event(x=0).replace(b": 0", b": " + b"[" * 300 + b"]" * 300),
    ),
    ("query: Field required", b'{"query_id": "q"}'),
    ("query: String should have at least 1 character", event(query="")),
    (r"query: String should match pattern '\S'", event(query=" \t\u3000\u00a0")),
    ("query: String should have at most 16384 characters", event(query="x" * 16_385)),
    ("query_id: …", b'{"query": "hi"}'),
    ("query_id: …", event(query_id="")),
    ("query_id: …", event(query_id=5)),
    ("top_k: Input should be greater than or equal to 1", event(top_k=0)),
    ("top_k: Input should be less than or equal to 200", event(top_k=10_000)),
    *[("top_k: Input should be a valid integer", event(top_k=k)) for k in ("5", 5.0, True, None)],
    ("query: Input should be a valid string (and 2 more)", event(query=1, top_k=0, top_n=0)),
    (
        "candidates: Tuple should have at most 1000 items after validation, not 1001",
        candidates(*[{"doc_id": str(n)} for n in range(1001)]),
    ),
    ("candidates.0.text: Field required", event(candidates=[{"doc_id": "d"}])),
    ("candidates.0.score: Input should be a finite number", candidates({"score": float("nan")})),
    (
        "the value has 9000077 bytes, more than limits.event_bytes (8388608)",
        candidates({"text": "x" * 9_000_000}),
    ),
    (
        r"Invalid JSON: control character (\u0000-\u001F) found while parsing a string "
        "at line 1 column 30",
        event(query="aXb").replace(b"X", b"\0"),
    ),
    ("Invalid JSON: lone leading surrogate in hex escape …", event(query="a\udc00b")),
    ("Invalid JSON: …", event(x="\ud800")),
    ("attributes: Input should be a valid string", event(attributes={"a": 1})),
]


@pytest.mark.parametrize(("message", "value"), REFUSED, ids=[said[:60] for said, _ in REFUSED])
def test_a_refusal_says_what_the_page_says(message: str, value: bytes | None) -> None:
    assert f"`{message}`" in PAGE
    with pytest.raises(BadRecordError) as caught:
        decode(record(value), LimitSettings())
    pattern = re.escape(message).replace("…", ".*")
    assert re.fullmatch(pattern, str(caught.value)), str(caught.value)


def test_the_message_of_a_worker_without_an_index_is_on_the_page() -> None:
    assert f"`{NO_CANDIDATES}`" in PAGE


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (event(query="a\0b"), {"query": "a\0b"}),
        (event(unknown={"a": [1]}), {}),
        (event(candidates=None), {"candidates": None}),
        (event(candidates=[]), {"candidates": ()}),
        (b'{"query_id": "q", "query": "hi", "query": "ho"}', {"query": "ho"}),
    ],
)
def test_what_the_page_says_is_accepted(value: bytes, expected: dict[str, Any]) -> None:
    query = decode(record(value), LimitSettings()).event
    assert {name: getattr(query, name) for name in expected} == expected


def test_of_equal_ids_the_first_counts_and_an_empty_text_stays() -> None:
    value = candidates({"text": ""}, {"text": "second"}, {"doc_id": "e", "text": "x" * 5_000_000})
    found = decode(record(value), LimitSettings()).event.candidates
    assert found is not None
    assert [(each.doc_id, len(each.text)) for each in found] == [("d", 0), ("e", 5_000_000)]


def record(value: bytes | None) -> Record:
    return Record(Partition("rerank.queries", 0), 0, 0, None, value)
