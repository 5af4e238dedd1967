"""Bytes to a query, or to a reason that never holds the record's content."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import QueryEvent
from tests.fakes.events import record_of
from worker.decode import Query, decode
from worker.errors import BadRecordError
from worker.settings import LimitSettings

LIMITS = LimitSettings()
SECRET = "correct-horse-battery-staple"


def event(**fields: Any) -> bytes:
    return json.dumps({"query_id": "q", "query": "a", **fields}).encode()


def candidate(**fields: Any) -> bytes:
    return event(candidates=[{"doc_id": "d", "text": "t", **fields}])


def accepted(value: bytes | None, limits: LimitSettings = LIMITS) -> Query:
    return decode(record_of(value), limits)


def reason(value: bytes | None, limits: LimitSettings = LIMITS) -> str:
    with pytest.raises(BadRecordError) as caught:
        decode(record_of(value), limits)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    return str(caught.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "no value"),
        (b"", "Invalid JSON"),
        (b"not json", "Invalid JSON"),
        (b'{"query_id": "q", "query": "a"', "Invalid JSON"),
        (event() + event(), "Invalid JSON"),
        (b"\xef\xbb\xbf" + event(), "Invalid JSON"),
        (event().decode().encode("utf-16"), "Invalid JSON"),
        (b'{"query_id": "q", "query": "\xff"}', "Invalid JSON"),
        (b'{"query_id": "q", "query": "\xed\xa0\x80"}', "Invalid JSON"),
        (b'{"query_id": "q", "query": "a\x00b"}', "Invalid JSON"),
        (b'{"query_id": "q", "query": "\\ud800"}', "Invalid JSON"),
        (b'{"query_id": "q", "query": "\\udc00 x"}', "Invalid JSON"),
        (b"[" * 100_000, "Invalid JSON"),
        (event()[:-1] + b', "x": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", "Invalid JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (b'"text"', "object"),
        (b"1", "object"),
        (b'{"query": "a"}', "query_id"),
        (event(query_id=""), "query_id"),
        (event(query_id=7), "query_id"),
        (event(query_id=None), "query_id"),
        (b'{"query_id": "q"}', "query: Field required"),
        (event(query=""), "query"),
        (event(query=" \t\r\n"), "query"),
        (event(query="\u00a0\u2003\u3000"), "query"),
        (event(query=["a"]), "query"),
        (event(query="a" * 16_385), "query"),
        (event(top_k=0), "top_k"),
        (event(top_k=-1), "top_k"),
        (event(top_k=201), "top_k"),
        (event(top_k=10_000), "top_k"),
        (event(top_k=10**400), "top_k"),
        (event(top_k="5"), "top_k"),
        (event(top_k=5.0), "top_k"),
        (event(top_k=True), "top_k"),
        (event(top_k=None), "top_k"),
        (event(top_n=0), "top_n"),
        (event(top_n=1001), "top_n"),
        (event(deadline_ms=0), "deadline_ms"),
        (event(deadline_ms=-5), "deadline_ms"),
        (event(deadline_ms=0.5), "deadline_ms"),
        (event(return_text="yes"), "return_text"),
        (event(return_text=1), "return_text"),
        (event(tenant=1), "tenant"),
        (event(attributes=None), "attributes"),
        (event(attributes={"a": {}}), "attributes"),
        (event(candidates={}), "candidates"),
        (event(candidates=["d"]), "candidates.0"),
        (event(candidates=[{"doc_id": "d", "text": "t"}] * 1001), "candidates"),
        (candidate(doc_id=""), "candidates.0.doc_id"),
        (candidate(doc_id=5), "candidates.0.doc_id"),
        (candidate(text=None), "candidates.0.text"),
        (event(candidates=[{"doc_id": "d"}]), "candidates.0.text: Field required"),
        (candidate(score=float("nan")), "candidates.0.score"),
        (candidate(score=float("inf")), "candidates.0.score"),
        (candidate()[:-3] + b', "score": 1e999}]}', "candidates.0.score"),
        (candidate(score="0.7"), "candidates.0.score"),
    ],
)
def test_what_can_never_be_answered(value: bytes | None, said: str) -> None:
    assert said in reason(value)


def test_all_fields() -> None:
    query = accepted(
        event(
            top_k=200,
            top_n=1000,
            deadline_ms=800,
            candidates=[{"doc_id": "d1", "text": "", "score": 0.71}],
            return_text=True,
            tenant="shop",
            attributes={"user": "u"},
        )
    )
    assert query.event.model_dump() == {
        "query_id": "q",
        "query": "a",
        "top_k": 200,
        "top_n": 1000,
        "deadline_ms": 800,
        "candidates": ({"doc_id": "d1", "text": "", "score": 0.71},),
        "return_text": True,
        "tenant": "shop",
        "attributes": {"user": "u"},
    }


def test_defaults() -> None:
    query = accepted(event())
    assert (query.event.top_k, query.event.top_n, query.event.deadline_ms) == (100, 10, None)
    assert query.event.candidates is None
    assert query.record.value == event()


def test_no_candidates_are_not_the_same_as_none() -> None:
    assert accepted(event(candidates=[])).event.candidates == ()
    assert accepted(event(candidates=None)).event.candidates is None


def test_unknown_fields_are_ignored_at_every_level() -> None:
    value = candidate(language="en")[:-1] + b', "priority": {"a": [1, null]}}'
    assert accepted(value).event == accepted(candidate()).event


def test_of_equal_ids_the_first_counts() -> None:
    candidates = [{"doc_id": d, "text": t} for d, t in [("a", "1"), ("b", "2"), ("a", "3")]]
    found = accepted(event(candidates=candidates)).event.candidates
    assert found is not None
    assert [(one.doc_id, one.text) for one in found] == [("a", "1"), ("b", "2")]


def test_ids_are_told_apart_exactly() -> None:
    names = ["a", "A", "a ", "\u00e9", "e\u0301", "a\u0000", "0", "00"]
    found = accepted(event(candidates=[{"doc_id": n, "text": ""} for n in names])).event.candidates
    assert found is not None
    assert [one.doc_id for one in found] == names


def test_texts_and_ids_are_handed_on_untouched() -> None:
    text = "a\u0000b \u202e \U0001f600 \ufeff\n\t"
    query = accepted(event(query_id=text, query=text, candidates=[{"doc_id": text, "text": text}]))
    (found,) = query.event.candidates or ()
    assert query.event.query_id == query.event.query == found.doc_id == found.text == text


def test_a_document_of_5_mb_is_accepted() -> None:
    (found,) = accepted(candidate(text="x" * 5_000_000)).event.candidates or ()
    assert len(found.text) == 5_000_000


def test_a_value_over_its_limit() -> None:
    limits = LimitSettings(event_bytes=len(event()))
    accepted(event(), limits)
    assert "limits.event_bytes" in reason(event() + b" ", limits)


def test_a_text_over_its_limit() -> None:
    limits = LimitSettings(text_chars=3)
    accepted(candidate(text="abc"), limits)
    assert "limits.text_chars" in reason(candidate(text="abcd"), limits)


def test_a_long_text_of_an_id_that_does_not_count_is_no_fault() -> None:
    candidates = [{"doc_id": "d", "text": "a"}, {"doc_id": "d", "text": "abcd"}]
    accepted(event(candidates=candidates), LimitSettings(text_chars=3))


@pytest.mark.parametrize("deadline_ms", [86_400_001, 10**30, 10**400])
def test_a_deadline_beyond_a_day_is_a_mistake(deadline_ms: int) -> None:
    """JSON's whole numbers have no bound, floats have: reckoning with such a one would raise."""
    assert "deadline_ms" in reason(event(deadline_ms=deadline_ms))


def test_several_mistakes_are_one_reason() -> None:
    assert reason(event(query=1, top_k="x", top_n=0)).endswith("(and 2 more)")


@pytest.mark.parametrize(
    "value",
    [
        SECRET.encode(),
        b'"' + SECRET.encode() + b'"',
        event()[:-1] + b" " + SECRET.encode(),
        event(query_id=[SECRET]),
        event(query={SECRET: SECRET}),
        event(top_k=SECRET),
        event(tenant=[SECRET]),
        event(attributes={SECRET: 1}),
        event(attributes={"a": [SECRET]}),
        event(attributes=SECRET),
        event(candidates=SECRET),
        event(candidates=[SECRET]),
        candidate(score=SECRET),
        candidate(doc_id=[SECRET]),
        event(**{SECRET: 1}, top_n=0),
        b'{"' + SECRET.encode() + b'": }',
    ],
)
def test_a_reason_never_holds_the_records_content(value: bytes) -> None:
    assert "horse" not in reason(value)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.sampled_from([10**400, -(10**400), "", " ", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
fields = st.sampled_from([*QueryEvent.model_fields, "other"])
candidate_lists = st.lists(
    st.dictionaries(st.sampled_from(["doc_id", "text", "score", "x"]), json_values, max_size=4),
    max_size=4,
)
events = st.dictionaries(fields, json_values | candidate_lists, max_size=6).map(
    lambda more: json.dumps({"query_id": "q", "query": "a", **more}).encode()
)


@given(st.binary(max_size=200) | events | json_values.map(lambda value: json.dumps(value).encode()))
def test_nothing_but_a_bad_record_is_ever_raised(value: bytes) -> None:
    with suppress(BadRecordError):
        query = decode(record_of(value), LIMITS)
        query.event.model_dump_json().encode()
        query.event.query_id.encode()


@given(st.data())
def test_a_damaged_event_is_bad_or_an_event(data: st.DataObject) -> None:
    value = bytearray(candidate(score=0.5))
    for _ in range(data.draw(st.integers(1, 4))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    with suppress(BadRecordError):
        decode(record_of(bytes(value)), LIMITS)
