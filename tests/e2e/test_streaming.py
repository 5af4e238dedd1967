"""The one path: query events on a real topic in, ranked lists and impressions out."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.events import Impression, QueryEvent, RankedList
from tests.chaos.verdict import await_settled
from tests.checker import (
    Outgoing,
    assert_exactly_once,
    assert_partition_order,
    committed_offsets,
    end_offsets,
    produce,
    read_topic,
    wait_for_count,
)
from tests.e2e.conftest import StartWorker
from tests.services.kafka import KafkaCluster
from tests.services.process import await_condition
from tests.services.topics import Topics
from tests.services.worker import await_metric

EVENTS = 2_000
TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def questions(folder: Path) -> list[str]:
    with gzip.open(folder / "queries.jsonl.gz", "rt") as lines:
        return [json.loads(line)["text"] for line in lines]


def events(texts: list[str], count: int) -> list[Outgoing]:
    return [
        Outgoing(
            key=f"q-{number}".encode(),
            value=json.dumps(
                {"query_id": f"q-{number}", "query": texts[number % len(texts)]}
            ).encode(),
            headers=(("traceparent", TRACEPARENT),),
        )
        for number in range(count)
    ]


# Two thousand events of 100 candidates take minutes on a busy machine.
@pytest.mark.timeout(900)
def test_two_thousand_events_through_a_restart_and_two_workers(
    kafka: KafkaCluster,
    topics: Callable[..., Topics],
    start_worker: StartWorker,
    trecqa_index: Path,
    data_dir: Callable[[str], Path],
    redis_url: str,
) -> None:
    """Exactly 2,000 lists and impressions: one worker, restarted, then two that share."""
    names = topics(queries=3, results=3, feedback=3)
    bootstrap = kafka.bootstrap_servers
    asked = events(questions(data_dir("trecqa/test")), EVENTS)
    options = {"index_bundle": str(trecqa_index), "redis_url": redis_url}

    # The restart comes while events of the first half wait.
    produce(bootstrap, names.queries, asked[: EVENTS // 2])
    first = start_worker(names, **options)
    wait_for_count(bootstrap, names.results, 1, timeout_s=420)
    first.process.terminate()
    assert len(read_topic(bootstrap, names.results)) < EVENTS // 2, "the restart came too late"

    # The second half comes when both workers have partitions.
    pair = [start_worker(names, **options) for _ in range(2)]
    await_condition(
        lambda: (
            sorted(worker.metric("kafka_reranker_assigned_partitions") for worker in pair) == [1, 2]
        ),
        240,
        lambda: "the workers do not share the partitions",
    )
    produce(bootstrap, names.queries, asked[EVENTS // 2 :])
    wait_for_count(bootstrap, names.results, EVENTS, timeout_s=420)
    ends = end_offsets(bootstrap, names.queries)
    await_condition(
        lambda: committed_offsets(bootstrap, names.group_id, names.queries) == ends,
        240,
        lambda: "offsets were not committed to the end",
    )

    await_settled(bootstrap, names)
    results = read_topic(bootstrap, names.results)
    impressions = read_topic(bootstrap, names.feedback)
    ids = [f"q-{number}" for number in range(EVENTS)]
    assert_exactly_once(ids, results)
    assert_exactly_once(ids, impressions)
    assert_partition_order(read_topic(bootstrap, names.queries), results)
    assert read_topic(bootstrap, names.dead_letters) == []
    for worker in pair:
        assert worker.metric("kafka_reranker_answers_total") > 0, "a worker had no share"
    for record in results:
        ranked = RankedList.model_validate_json(record.value or b"")
        assert ranked.tier == "full"
        assert len(ranked.ranking) == 10
        assert record.header["traceparent"] == TRACEPARENT
        assert record.header["ce_specversion"] == b"1.0"
    for record in impressions:
        assert Impression.model_validate_json(record.value or b"").shown


def test_the_same_question_gets_the_same_list(
    kafka: KafkaCluster,
    topics: Callable[..., Topics],
    start_worker: StartWorker,
    trecqa_index: Path,
    data_dir: Callable[[str], Path],
    redis_url: str,
) -> None:
    """Scored, from Redis, from another worker's Redis entries, and without a cache: one ranking."""
    names = topics()
    texts = questions(data_dir("trecqa/test"))[:5]
    options = {"index_bundle": str(trecqa_index)}
    rankings: list[list[object]] = []
    for redis in (redis_url, redis_url, "redis://127.0.0.1:1/0", "memory://"):
        worker = start_worker(names, redis_url=redis, **options)
        before = len(read_topic(kafka.bootstrap_servers, names.results))
        produce(kafka.bootstrap_servers, names.queries, events(texts, 5))
        records = wait_for_count(kafka.bootstrap_servers, names.results, before + 5)[before:]
        lists = [RankedList.model_validate_json(record.value or b"") for record in records]
        rankings.append([each.ranking for each in lists])
        hits = sum(each.cache.hits for each in lists)
        assert (hits > 0) == (len(rankings) == 2), "only the second worker finds scores in Redis"
        worker.process.terminate()
    assert all(ranking == rankings[0] for ranking in rankings)


def test_bad_records_become_dead_letters_and_neighbours_are_answered(
    kafka: KafkaCluster, topics: Callable[..., Topics], start_worker: StartWorker
) -> None:
    """Every kind of bad record, between good ones, in one batch."""
    names = topics()
    good = {
        "query_id": "good-1",
        "query": "capital of France",
        "candidates": [{"doc_id": "a", "text": "Paris\u0000 is it"}, {"doc_id": "b", "text": ""}],
        "unknown": {"field": [1]},
    }
    empty = {"query_id": "good-2", "query": "anything", "candidates": []}
    bad: list[bytes | None] = [
        b"not json",
        b'{"query_id": "x"}',
        b'{"query_id": "x", "query": ""}',
        b'{"query_id": "x", "query": "y", "top_k": 0}',
        b'{"query_id": "x", "query": "y", "top_k": 10000}',
        b'{"query_id": 7, "query": "y"}',
        b'{"query_id": "x", "query": "\\ud800"}',
        b"\xff\xfe",
        b'{"query_id": "no-candidates-and-no-index", "query": "y"}',
        None,
    ]
    headers = (("traceparent", TRACEPARENT), ("mine", b"\x00\xff"))
    records = [Outgoing(key=b"good-1", value=json.dumps(good).encode())]
    records += [Outgoing(key=b"bad", value=value, headers=headers) for value in bad]
    records += [Outgoing(key=b"good-2", value=json.dumps(empty).encode())]
    produce(kafka.bootstrap_servers, names.queries, records)
    worker = start_worker(names)

    results = wait_for_count(kafka.bootstrap_servers, names.results, 2)
    wait_for_count(kafka.bootstrap_servers, names.dead_letters, len(bad))
    letters = read_topic(kafka.bootstrap_servers, names.dead_letters)

    assert_exactly_once(["good-1", "good-2"], results)
    assert [letter.value for letter in letters] == bad
    for offset, letter in enumerate(letters, start=1):
        assert letter.key == b"bad"
        assert letter.headers[:2] == headers
        assert letter.header["dlq.topic"] == names.queries.encode()
        assert letter.header["dlq.offset"] == str(offset).encode()
        assert 0 < len(letter.header["dlq.error.message"] or b"") <= 1024
    lists = {
        record.query_id: RankedList.model_validate_json(record.value or b"") for record in results
    }
    assert lists["good-2"].ranking == ()
    assert {document.doc_id for document in lists["good-1"].ranking} == {"a", "b"}
    await_metric(worker, len(bad), "kafka_reranker_dead_letters_total")


def test_sigterm_drains_and_leaves_the_group(
    kafka: KafkaCluster, topics: Callable[..., Topics], start_worker: StartWorker
) -> None:
    """The exit code is 0, what was begun is committed, and the next worker goes on at once."""
    names = topics()
    event = QueryEvent.model_validate(
        {"query_id": "q", "query": "y", "candidates": ({"doc_id": "a", "text": "b"},)}
    )
    value = event.model_dump_json().encode()
    worker = start_worker(names)
    produce(kafka.bootstrap_servers, names.queries, [Outgoing(key=b"q", value=value)] * 50)
    wait_for_count(kafka.bootstrap_servers, names.results, 1)
    worker.process.terminate()

    assert worker.process.exit_code == 0, worker.log()
    start_worker(names)
    wait_for_count(kafka.bootstrap_servers, names.results, 50)
    assert_exactly_once(["q"] * 50, read_topic(kafka.bootstrap_servers, names.results))
