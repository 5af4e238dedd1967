"""Outcomes to records: headers, keys, what is kept byte for byte, and what never leaves."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import DeadLetterHeaders, Impression, RankedList
from tests.fakes.clock import START_S, FakeClock
from tests.fakes.events import event_json, query_of, record_of
from tests.fakes.retriever import INDEX
from tests.fakes.worker import MODEL, TOPICS
from worker.candidates import Candidate
from worker.errors import BadRecordError
from worker.publish import BATCH_OVERHEAD_BYTES, MAX_MESSAGE_BYTES, Publisher, bounded, size_of
from worker.rank import Score, rank
from worker.records import Headers, Outgoing, Partition
from worker.reranker import Answer, Rejection

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PLACE = Partition("rerank.queries", 3)
ERROR = BadRecordError("it is bad")


def publisher(
    text: Literal["never", "inline", "always"] = "inline",
    max_bytes: Mapping[str, int] | None = None,
) -> Publisher:
    return Publisher(TOPICS, "host-1", text, FakeClock(), max_bytes or {})


def answer(*, inline: bool = True, headers: Headers = (), **event: Any) -> Answer:
    value = event_json("q-é", texts=["one", "two"] if inline else None, **event)
    candidates = [Candidate("d1", "one", 0.5, 1), Candidate("d2", "two", None, 2)]
    scores = [Score(-1.5, truncated=True), Score(4.0, truncated=False)]
    return Answer(
        query=query_of(value, partition=PLACE, offset=17, headers=headers, key=b"other"),
        ranking=rank(candidates, scores, 10),
        tier="full",
        degraded=None,
        model=MODEL,
        index=None if inline else INDEX,
        hits=1,
        misses=1,
        queue_s=0.0031,
        retrieve_s=0.0024,
        score_s=0.088,
        total_s=0.0952,
    )


def published(of: Publisher, one: Answer) -> tuple[Outgoing, Outgoing]:
    result, impression = of.publish(one).records
    return result, impression


def parsed(record: Outgoing) -> Any:
    assert record.value is not None
    return json.loads(record.value)


def header(record: Outgoing, name: str) -> bytes | None:
    (value,) = [value for key, value in record.headers if key == name]
    return value


def test_an_answer_is_a_list_and_an_impression() -> None:
    result, impression = published(publisher(), answer())
    assert (result.topic, impression.topic) == (TOPICS.results, TOPICS.feedback)
    RankedList.model_validate_json(result.value or b"")
    Impression.model_validate_json(impression.value or b"")


def test_the_key_is_the_query_id() -> None:
    for record in published(publisher(), answer()):
        assert record.key == "q-é".encode()


def test_the_list() -> None:
    result, _ = published(publisher(), answer())
    assert parsed(result) == {
        "query_id": "q-é",
        "ranking": [
            {
                "doc_id": "d2",
                "rank": 1,
                "score": 4.0,
                "relevance": pytest.approx(0.982, abs=0.001),
                "retrieval_rank": 2,
                "retrieval_score": None,
                "truncated": False,
            },
            {
                "doc_id": "d1",
                "rank": 2,
                "score": -1.5,
                "relevance": pytest.approx(0.182, abs=0.001),
                "retrieval_rank": 1,
                "retrieval_score": 0.5,
                "truncated": True,
            },
        ],
        "tier": "full",
        "degraded": None,
        "model": MODEL.model_dump(),
        "index": None,
        "cache": {"hits": 1, "misses": 1},
        "timings_ms": {"queue": 3.1, "retrieve": 2.4, "score": 88.0, "total": 95.2},
    }


def test_the_index_is_named_where_it_retrieved() -> None:
    assert parsed(published(publisher(), answer(inline=False))[0])["index"] == INDEX.model_dump()


def test_cloudevents_headers() -> None:
    result, impression = published(publisher(), answer())
    time = datetime.fromtimestamp(START_S, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z").encode()
    assert dict(result.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"rerank.queries/3/17/result",
        "ce_type": b"kafka-reranker.ranked-list.v1",
        "ce_source": b"/kafka-reranker",
        "ce_time": time,
        "content-type": b"application/json",
    }
    assert header(impression, "ce_id") == b"rerank.queries/3/17/impression"
    assert header(impression, "ce_type") == b"kafka-reranker.impression.v1"


def test_the_same_work_has_the_same_id_again() -> None:
    first, second = published(publisher(), answer()), published(publisher(), answer())
    assert [header(one, "ce_id") for one in first] == [header(one, "ce_id") for one in second]


def test_trace_context_goes_through_and_nothing_else() -> None:
    headers: Headers = (
        ("traceparent", TRACE),
        ("tracestate", b"a=1"),
        ("authorization", b"secret"),
        ("ce_id", b"forged"),
        ("ce_type", b"forged"),
    )
    for record in published(publisher(), answer(headers=headers)):
        assert header(record, "traceparent") == TRACE
        assert header(record, "tracestate") == b"a=1"
        assert header(record, "ce_id") != b"forged"
        assert header(record, "ce_type") != b"forged"
        assert "authorization" not in dict(record.headers)


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("inline", [True, False])
def test_the_list_has_texts_only_where_they_were_asked_for(asked: bool, inline: bool) -> None:
    result, _ = published(publisher("always"), answer(inline=inline, return_text=asked))
    texts = [entry.get("text", "absent") for entry in parsed(result)["ranking"]]
    assert texts == (["two", "one"] if asked else ["absent", "absent"])


@pytest.mark.parametrize(
    ("text", "inline", "shown"),
    [
        ("never", True, False),
        ("never", False, False),
        ("inline", True, True),
        ("inline", False, False),
        ("always", True, True),
        ("always", False, True),
    ],
)
@pytest.mark.parametrize("asked", [True, False])
def test_the_impression_has_texts_as_the_settings_say(
    text: Literal["never", "inline", "always"], inline: bool, shown: bool, asked: bool
) -> None:
    _, impression = published(publisher(text), answer(inline=inline, return_text=asked))
    texts = [entry.get("text", "absent") for entry in parsed(impression)["shown"]]
    assert texts == (["two", "one"] if shown else ["absent", "absent"])


def test_the_impression_says_what_was_shown() -> None:
    _, impression = published(publisher("never"), answer(tenant="shop"))
    value = parsed(impression)
    assert value["kind"] == "impression"
    assert (value["query"], value["tenant"]) == ("how do I read a file", "shop")
    assert value["model"] == MODEL.model_dump()
    assert [(one["doc_id"], one["rank"], one["score"]) for one in value["shown"]] == [
        ("d2", 1, 4.0),
        ("d1", 2, -1.5),
    ]


def test_attributes_never_leave() -> None:
    for record in published(publisher("always"), answer(attributes={"user": "u-9"})):
        assert b"u-9" not in (record.value or b"")


@given(
    key=st.none() | st.binary(max_size=20),
    value=st.none() | st.binary(max_size=50),
    headers=st.lists(st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=8)), max_size=5),
)
def test_a_dead_letter_is_the_record_byte_for_byte(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    headers = [pair for pair in headers if not pair[0].startswith("dlq.")]
    record = record_of(value, key=key, headers=tuple(headers))
    letter = publisher().dead_letter(record, ERROR)
    assert letter.topic == TOPICS.dead_letters
    assert (letter.key, letter.value) == (key, value)
    assert letter.headers[: len(headers)] == tuple(headers)


def test_a_dead_letter_says_where_it_came_from_and_why() -> None:
    record = record_of(b"x", partition=PLACE, offset=17, timestamp_ms=1234)
    letter = publisher().dead_letter(record, ERROR)
    ours = {name: value for name, value in letter.headers if value is not None}
    assert ours == {
        "dlq.topic": b"rerank.queries",
        "dlq.partition": b"3",
        "dlq.offset": b"17",
        "dlq.timestamp": b"1234",
        "dlq.error.class": b"BadRecordError",
        "dlq.error.message": b"it is bad",
        "dlq.worker": b"host-1",
    }
    assert set(ours) <= {
        field.serialization_alias or name for name, field in DeadLetterHeaders.model_fields.items()
    }


def test_forged_dead_letter_headers_are_removed() -> None:
    headers: Headers = (
        ("dlq.topic", b"forged"),
        ("dlq.offset", b"forged"),
        ("dlq.anything", None),
        ("dlq", b"kept"),
        ("my.dlq.topic", b"kept"),
        ("DLQ.topic", b"kept"),
    )
    letter = publisher().dead_letter(record_of(b"x", headers=headers), ERROR)
    assert header(letter, "dlq.topic") == b"rerank.queries"
    assert header(letter, "dlq.offset") == b"0"
    names = [name for name, _ in letter.headers]
    assert "dlq.anything" not in names
    assert names[:3] == ["dlq", "my.dlq.topic", "DLQ.topic"]


def test_a_rejection_is_a_dead_letter_and_nothing_else() -> None:
    query = query_of(event_json("q"))
    done = publisher().publish(Rejection(query, ERROR))
    (letter,) = done.records
    assert letter.topic == TOPICS.dead_letters
    assert letter.value == query.record.value


@given(st.text(max_size=3000) | st.text("é\n\U0001f600 ", max_size=2000))
def test_a_message_is_one_line_of_bounded_utf_8(message: str) -> None:
    found = bounded(message)
    assert len(found.encode()) <= MAX_MESSAGE_BYTES
    assert len(found.splitlines()) <= 1


def test_a_message_with_half_a_character_is_still_utf_8() -> None:
    assert bounded("a\ud800b").encode() == b"a?b"


def test_a_short_message_is_kept() -> None:
    assert bounded("query: Field required") == "query: Field required"


def limit_for(record: Outgoing) -> int:
    return size_of(record) + BATCH_OVERHEAD_BYTES


@pytest.mark.parametrize("place", [0, 1])
def test_an_answer_that_its_topic_would_refuse_is_a_dead_letter(place: int) -> None:
    one = answer(return_text=True)
    record = published(publisher(), one)[place]
    fits = publisher(max_bytes={record.topic: limit_for(record)})
    assert len(fits.publish(one).records) == 2
    tight = publisher(max_bytes={record.topic: limit_for(record) - 1})
    done = tight.publish(one)
    (letter,) = done.records
    assert isinstance(done.outcome, Rejection)
    assert letter.topic == TOPICS.dead_letters
    assert letter.value == one.query.record.value
    assert record.topic.encode() in (header(letter, "dlq.error.message") or b"")


def test_a_dead_letter_that_its_topic_would_refuse_goes_without_value() -> None:
    record = record_of(b"x" * 5_000, key=b"k", headers=(("a", b"b"),))
    letter = publisher(max_bytes={TOPICS.dead_letters: 2_000}).dead_letter(record, ERROR)
    assert (letter.key, letter.value) == (b"k", None)
    assert header(letter, "dlq.value.omitted") == b"5000"
    assert header(letter, "a") == b"b"


@pytest.mark.parametrize("value", [None, b"", b"x", b"x" * 5_000])
@pytest.mark.parametrize("key", [None, b"k", b"k" * 5_000])
@pytest.mark.parametrize("headers", [(), (("a", b"b" * 5_000),), (("a" * 5_000, None),)])
def test_a_dead_letter_always_fits(
    value: bytes | None, key: bytes | None, headers: Headers
) -> None:
    """What does not fit would fail the transaction, be done again, and fail again, for ever."""
    record = record_of(value, key=key, headers=headers)
    long = BadRecordError("long " * 1_000)
    letter = publisher(max_bytes={TOPICS.dead_letters: 2_500}).dead_letter(record, long)
    assert limit_for(letter) <= 2_500
    assert header(letter, "dlq.offset") == b"0"


def test_a_dead_letter_without_headers_or_key_says_so() -> None:
    record = record_of(b"x", key=b"k" * 5_000, headers=(("a", b"b" * 5_000), ("c", None)))
    of = publisher(max_bytes={TOPICS.dead_letters: 9_000})
    letter = of.dead_letter(record, ERROR)
    assert (letter.key, letter.value) == (b"k" * 5_000, None)
    assert header(letter, "dlq.headers.omitted") == b"2"
    assert "dlq.key.omitted" not in dict(letter.headers)
    bare = publisher(max_bytes={TOPICS.dead_letters: 2_000}).dead_letter(record, ERROR)
    assert bare.key is None
    assert header(bare, "dlq.key.omitted") == b"5000"
    assert {name.split(".")[0] for name, _ in bare.headers} == {"dlq"}
