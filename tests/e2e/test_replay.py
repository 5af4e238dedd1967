"""`python -m worker replay` on a real broker, as an operator runs it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka import Consumer

from schemas.events import DeadLetterHeaders, RankedList
from tests.checker import (
    Outgoing,
    Record,
    assert_exactly_once,
    produce,
    read_topic,
    wait_for_count,
)
from tests.e2e.conftest import StartWorker
from tests.services.kafka import KafkaCluster
from tests.services.topics import Topics
from tests.services.worker import REPOSITORY

NewTopics = Callable[..., Topics]
TRACE = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


def letter(
    topics: Topics, number: int, error: str = "query: Field required", **more: str
) -> Outgoing:
    """A dead letter as the worker writes it; `more` are further dlq.* headers."""
    added = DeadLetterHeaders(
        topic=topics.queries,
        partition=number % 2,
        offset=number,
        timestamp=1_764_000_000_000 + number,
        error_class="BadRecordError" if number % 2 else "OtherError",
        error_message=error,
        worker="reranker-0",
    ).model_dump(by_alias=True)
    headers = tuple((name, str(value).encode()) for name, value in {**added, **more}.items())
    value = json.dumps({"query_id": f"id-{number}", "n": number}).encode() + b"  "
    return Outgoing(f"q-{number}".encode(), value, (TRACE, ("mine", b"\x00\xff"), *headers))


def replay(
    kafka: KafkaCluster, topics: Topics, *arguments: str
) -> "subprocess.CompletedProcess[str]":
    variables = {
        "RERANKER_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "RERANKER_KAFKA__GROUP_ID": topics.group_id,
        "RERANKER_KAFKA__TOPICS__QUERIES": topics.queries,
        "RERANKER_KAFKA__TOPICS__RESULTS": topics.results,
        "RERANKER_KAFKA__TOPICS__FEEDBACK": topics.feedback,
        "RERANKER_KAFKA__TOPICS__DEAD_LETTERS": topics.dead_letters,
    }
    return subprocess.run(
        [sys.executable, "-m", "worker", "replay", *arguments],
        cwd=REPOSITORY,
        env={**_clean_environment(), **variables},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def _clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("RERANKER_")}


def keys(records: Sequence[Record]) -> list[bytes]:
    return sorted(record.key or b"" for record in records)


def named(*numbers: int) -> list[bytes]:
    return sorted(f"q-{number}".encode() for number in numbers)


def test_letters_come_back_as_they_were_and_only_once(
    kafka: KafkaCluster, topics: NewTopics
) -> None:
    names = topics(queries=2, dead_letters=2)
    sent = [letter(names, number) for number in range(20)]
    produce(kafka.bootstrap_servers, names.dead_letters, sent)

    first = replay(kafka, names)
    second = replay(kafka, names)

    assert (first.returncode, first.stdout) == (0, ""), first.stderr
    assert first.stderr == "replayed: 20, left: 0\n"
    assert (second.returncode, second.stderr) == (0, "replayed: 0, left: 0\n")
    back = read_topic(kafka.bootstrap_servers, names.queries)
    assert keys(back) == named(*range(20))
    by_key = {one.key: one for one in sent}
    for record in back:
        assert record.value == by_key[record.key].value
        assert record.headers == (TRACE, ("mine", b"\x00\xff"), ("dlq.replays", b"1"))


def test_a_filter_leaves_the_others_for_later(kafka: KafkaCluster, topics: NewTopics) -> None:
    """Each letter is replayed once, also behind others that were left."""
    names = topics(queries=2)
    bootstrap = kafka.bootstrap_servers
    produce(bootstrap, names.dead_letters, [letter(names, number) for number in range(10)])

    steps: list[tuple[tuple[str, ...], list[int]]] = [
        (("--key", "q-7"), [7]),
        (("--error-class", "OtherError", "--limit", "2"), [0, 2]),
        (("--error-class", "OtherError"), [4, 6, 8]),
        (("--query-id", "id-3", "--query-id", "q-9"), [3, 9]),
        (("--partition", "0"), []),
        (("--since", "1h", "--limit", "1"), [1]),
        ((), [5]),
        ((), []),
    ]
    seen: list[bytes] = []
    for arguments, expected in steps:
        done = replay(kafka, names, *arguments)
        assert done.returncode == 0, done.stderr
        assert f"replayed: {len(expected)}," in done.stderr, arguments
        seen = sorted([*seen, *named(*expected)])
        assert keys(read_topic(bootstrap, names.queries)) == seen, arguments


def test_a_dry_run_says_what_would_happen_and_does_nothing(
    kafka: KafkaCluster, topics: NewTopics
) -> None:
    names = topics(queries=2)
    bootstrap = kafka.bootstrap_servers
    produce(bootstrap, names.dead_letters, [letter(names, number) for number in range(4)])

    table = replay(kafka, names, "--dry-run", "--error-class", "BadRecordError")
    lines = replay(kafka, names, "--dry-run", "--json", "--error-class", "BadRecordError")

    assert table.returncode == lines.returncode == 0, table.stderr
    assert "q-1" in table.stdout
    assert "q-0" not in table.stdout
    assert table.stderr == lines.stderr == "would be replayed: 2, left: 2\n"
    rows = [json.loads(line) for line in lines.stdout.splitlines()]
    assert [row["key"] for row in rows] == ["q-1", "q-3"]
    assert rows[0]["from"] == f"{names.queries}/1@1"
    assert rows[0]["error"] == "BadRecordError: query: Field required"
    assert read_topic(bootstrap, names.queries) == []
    assert "replayed: 4," in replay(kafka, names).stderr, "the dry run has settled something"


def test_what_cannot_be_replayed_is_said_and_stays(kafka: KafkaCluster, topics: NewTopics) -> None:
    names = topics(queries=2)
    bootstrap = kafka.bootstrap_servers
    omitted = letter(names, 1, **{"dlq.value.omitted": "9000000"})
    elsewhere = letter(names, 3, **{"dlq.topic": "somebody.elses"})
    letters = [
        Outgoing(b"no-letter", b"{}", ()),
        Outgoing(omitted.key, None, omitted.headers),
        elsewhere,
        letter(names, 5),
    ]
    produce(bootstrap, names.dead_letters, letters)

    done = replay(kafka, names)
    missing = replay(kafka, names, "--topic", "somebody.elses")
    discarded = replay(kafka, names, "--discard", "--key", "q-1")

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "letter 0@0 (no-letter): can't be replayed: its dlq.* headers are missing or wrong",
        "letter 0@1 (q-1): can't be replayed: its value was left out, too large for the "
        "dead-letter topic; the record may still be on its own",
        "replayed: 1, left: 1, 2 can't be replayed",
    ]
    assert missing.returncode == 1
    assert "topic somebody.elses does not exist" in missing.stderr
    assert "discarded: 1," in discarded.stderr
    assert "q-1" not in replay(kafka, names).stderr
    assert keys(read_topic(bootstrap, names.queries)) == named(5)


def test_another_topic_and_a_rate(kafka: KafkaCluster, topics: NewTopics) -> None:
    names, canary = topics(queries=2), topics(queries=1)
    bootstrap = kafka.bootstrap_servers
    produce(bootstrap, names.dead_letters, [letter(names, number) for number in range(6)])

    done = replay(kafka, names, "--to", canary.queries, "--rate", "4", "--json")
    wrong = replay(kafka, names, "--to", "no.such.topic")
    itself = replay(kafka, names, "--to", names.dead_letters)

    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["what"] for line in done.stdout.splitlines()] == [
        f"replayed to {canary.queries}"
    ] * 6
    back = read_topic(bootstrap, canary.queries)
    assert keys(back) == named(*range(6))
    # Two transactions at least: four letters, then those of the next second.
    assert back[-1].timestamp - back[0].timestamp >= 900
    assert (wrong.returncode, wrong.stderr.count("\n")) == (78, 1)
    assert "no.such.topic' does not exist" in wrong.stderr
    assert itself.returncode == 78
    assert read_topic(bootstrap, names.queries) == []


def test_two_at_the_same_time(kafka: KafkaCluster, topics: NewTopics) -> None:
    """The second is told to wait; each letter is replayed once."""
    names = topics(queries=2)
    bootstrap = kafka.bootstrap_servers
    produce(bootstrap, names.dead_letters, [letter(names, number) for number in range(10)])
    other = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"{names.group_id}.replay",
            "partition.assignment.strategy": "cooperative-sticky",
            "log_level": 0,
        }
    )
    other.subscribe([names.dead_letters])
    try:
        while not other.assignment():
            other.poll(0.2)
        done = _with_polling(other, lambda: replay(kafka, names))
    finally:
        other.close()
    assert done.returncode == 70, done.stderr
    assert "another replay is at work in group" in done.stderr
    assert read_topic(bootstrap, names.queries) == []
    assert "replayed: 10," in replay(kafka, names).stderr


def _with_polling(
    other: Consumer, run: Callable[[], "subprocess.CompletedProcess[str]"]
) -> "subprocess.CompletedProcess[str]":
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        while not running.done():
            other.poll(0.1)
        return running.result()


@pytest.mark.slow
def test_the_whole_circle_with_a_worker(
    kafka: KafkaCluster, topics: NewTopics, start_worker: StartWorker
) -> None:
    """Refused for a setting, replayed too early (and told from new ones), then answered."""
    names = topics()
    bootstrap = kafka.bootstrap_servers
    candidates = [{"doc_id": "a", "text": "b " * 200}]
    sent = [
        Outgoing(name.encode(), json.dumps({**event, "query_id": name}).encode(), (TRACE,))
        for event in [{"query": "y", "candidates": candidates}]
        for name in (f"q-{number}" for number in range(5))
    ]
    produce(bootstrap, names.queries, sent)
    strict = start_worker(names, LIMITS__EVENT_BYTES="100")
    wait_for_count(bootstrap, names.dead_letters, 5)
    assert "replayed: 5," in replay(kafka, names).stderr
    letters = wait_for_count(bootstrap, names.dead_letters, 10)
    assert [one.header.get("dlq.replays") for one in letters] == [None] * 5 + [b"1"] * 5
    strict.process.terminate()

    assert "replayed: 0," in replay(kafka, names, "--max-replays", "1").stderr
    assert "replayed: 5," in replay(kafka, names, "--error-contains", "event_bytes").stderr
    start_worker(names)
    results = wait_for_count(bootstrap, names.results, 5)

    assert_exactly_once([one.key.decode() for one in sent if one.key], results)
    assert all(RankedList.model_validate_json(one.value or b"").tier == "full" for one in results)
    assert all(one.header["traceparent"] == TRACE[1] for one in results)
    assert len(read_topic(bootstrap, names.dead_letters)) == 10
