"""What the worker writes is what the contract promises: values, keys and headers."""

import json
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from schemas import files
from schemas.events import DeadLetterHeaders, DegradedReason, IndexRef, ModelRef, QueryEvent, Tier
from worker.candidates import Candidate
from worker.clock import SystemClock
from worker.decode import Query
from worker.errors import BadRecordError
from worker.publish import Publisher
from worker.rank import Score, rank
from worker.records import Headers, Partition, Record
from worker.reranker import Answer
from worker.settings import TopicSettings

EXAMPLES = files.FOLDER / "examples"
MESSAGES = yaml.safe_load(files.ASYNCAPI.read_text(encoding="utf-8"))["components"]["messages"]
TRACE: Headers = (("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),)
PUBLISHER = Publisher(TopicSettings(), "reranker-0", "inline", SystemClock(), {})


def schema(name: str) -> Draft202012Validator:
    text = (files.JSON / f"{name}.schema.json").read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(text))


def answer(
    example: str, scores: list[float], tier: Tier = "full", degraded: DegradedReason | None = None
) -> Answer:
    value = (EXAMPLES / f"query-event.{example}.json").read_bytes()
    record = Record(Partition("rerank.queries", 2), 4711, 1_764_000_000_000, b"k", value, TRACE)
    event = QueryEvent.model_validate_json(value)
    candidates = [Candidate(f"d{n}", f"text {n}", None if n == 1 else 0.5, n) for n in (1, 2, 3)]
    return Answer(
        query=Query(record, event),
        ranking=rank(candidates, [Score(score, truncated=True) for score in scores], event.top_n),
        tier=tier,
        degraded=degraded,
        model=ModelRef(name="m", digest="sha256:0", precision="int8"),
        index=IndexRef(name="i", digest="sha256:1"),
        hits=1,
        misses=2,
        queue_s=0.01,
        retrieve_s=0.02,
        score_s=0.03,
        total_s=0.06,
    )


@pytest.mark.parametrize(
    "given",
    [
        answer("minimal", [1.5, -800.0, 800.0]),
        answer("full", [0.5, 0.5, 0.5]),
        answer("candidates", [2.5], "reduced", "deadline"),
        answer("minimal", [], "retrieval_order", "scorer_unavailable"),
    ],
    ids=["full", "with texts", "reduced", "retrieval order"],
)
def test_an_answer_is_a_ranked_list_and_an_impression(given: Answer) -> None:
    result, impression = PUBLISHER.publish(given).records
    event = given.query.event
    for record, name, message in (
        (result, "ranked-list", "rankedList"),
        (impression, "impression", "impression"),
    ):
        value: dict[str, Any] = json.loads(record.value or b"")
        schema(name).validate(value)
        assert record.key == event.query_id.encode() == value["query_id"].encode()
        headers = {header: (content or b"").decode() for header, content in record.headers}
        Draft202012Validator(MESSAGES[message]["headers"]).validate(headers)
        assert headers["ce_type"] == MESSAGES[message]["name"]
        assert headers["traceparent"].encode() == TRACE[0][1]
    entries = json.loads(result.value or b"")["ranking"]
    assert all(("text" in entry) == event.return_text for entry in entries)
    schema("feedback-event").validate(json.loads(impression.value or b""))


def test_ids_of_the_events_follow_from_the_input_record() -> None:
    ids = [
        dict(record.headers)["ce_id"] for record in PUBLISHER.publish(answer("minimal", [])).records
    ]
    assert ids == [b"rerank.queries/2/4711/result", b"rerank.queries/2/4711/impression"]


def test_a_dead_letter_has_the_headers_of_the_example() -> None:
    expected = json.loads((EXAMPLES / "dead-letter-headers.invalid-json.json").read_bytes())
    record = Record(
        Partition(expected["dlq.topic"], int(expected["dlq.partition"])),
        int(expected["dlq.offset"]),
        int(expected["dlq.timestamp"]),
        key=b"\xff",
        value=b"not JSON \xff",
        headers=(("ce_id", b"1"), ("binary", b"\xff"), ("nothing", None)),
    )
    publisher = Publisher(TopicSettings(), expected["dlq.worker"], "inline", SystemClock(), {})
    letter = publisher.dead_letter(record, BadRecordError(expected["dlq.error.message"]))
    assert (letter.key, letter.value) == (record.key, record.value)
    assert letter.headers[:3] == record.headers
    added = {name: (value or b"").decode() for name, value in letter.headers[3:]}
    assert added == expected
    schema("dead-letter-headers").validate(added)


def test_a_dead_letter_of_which_nothing_fits_says_what_the_record_had() -> None:
    expected = json.loads((EXAMPLES / "dead-letter-headers.nothing-left.json").read_bytes())
    headers: Headers = (("a", b"x" * 600_000), ("b", b"x" * 600_000), ("c", None))
    place = Partition("rerank.queries", 1)
    record = Record(place, 816, 1_764_000_002_346, b"k" * 1_100_000, None, headers)
    topics = TopicSettings()
    limits = {topics.dead_letters: 1_048_588}
    publisher = Publisher(topics, expected["dlq.worker"], "inline", SystemClock(), limits)
    letter = publisher.dead_letter(record, BadRecordError(expected["dlq.error.message"]))
    assert (letter.key, letter.value) == (None, None)
    added = {name: (value or b"").decode() for name, value in letter.headers}
    assert added == expected
    schema("dead-letter-headers").validate(added)
    found = DeadLetterHeaders.of(letter.headers)
    assert (found.value_omitted, found.headers_omitted, found.key_omitted) == (0, 3, 1_100_000)


def test_a_dead_letter_that_is_too_large_says_what_it_had() -> None:
    expected = json.loads((EXAMPLES / "dead-letter-headers.value-omitted.json").read_bytes())
    record = Record(Partition("rerank.queries", 1), 815, 1_764_000_002_345, b"k", b"x" * 9_000_077)
    topics = TopicSettings()
    limits = {topics.dead_letters: 1_048_588}
    publisher = Publisher(topics, expected["dlq.worker"], "inline", SystemClock(), limits)
    letter = publisher.dead_letter(record, BadRecordError(expected["dlq.error.message"]))
    assert (letter.key, letter.value) == (record.key, None)
    added = {name: (value or b"").decode() for name, value in letter.headers}
    assert added == expected
    schema("dead-letter-headers").validate(added)
