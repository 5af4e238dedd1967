"""The producers and consumers of `docs/examples` do on a real broker what `docs/events.md` says."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer
from kafka.partitioner.default import murmur2

from schemas.events import QueryEvent
from tests.checker import Outgoing, produce, read_topic
from tests.services.kafka import KafkaCluster
from tests.services.process import await_condition
from tests.services.topics import Topics

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "docs" / "examples"
RANKED_LISTS = REPOSITORY / "schemas" / "examples"
CLIENTS = ("kafka_python", "confluent_kafka")
PARTITIONS = 12


def environment(kafka: KafkaCluster, topics: Topics) -> dict[str, str]:
    return {
        **os.environ,
        "KAFKA": kafka.bootstrap_servers,
        "QUERIES": topics.queries,
        "RESULTS": topics.results,
        "GROUP": f"{topics.group_id}.shop",
    }


@pytest.mark.parametrize("client", CLIENTS)
def test_a_producer_asks_a_question_that_the_worker_takes(
    client: str, kafka: KafkaCluster, topics: Callable[..., Topics]
) -> None:
    names = topics(queries=PARTITIONS)
    ran = subprocess.run(
        [sys.executable, EXAMPLES / f"produce_{client}.py"],
        env=environment(kafka, names),
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    (record,) = read_topic(kafka.bootstrap_servers, names.queries)
    event = QueryEvent.model_validate_json(record.value or b"")
    assert ran.stdout.split() == [event.query_id] == [record.query_id]
    assert record.header["ce_type"] == b"kafka-reranker.query.v1"
    assert record.header["ce_id"] == event.query_id.encode()
    assert record.header["content-type"] == b"application/json"
    # So that a click from any client lies where the worker's impression lies.
    assert record.partition == (murmur2(record.key) & 0x7FFFFFFF) % PARTITIONS


@pytest.mark.parametrize("client", CLIENTS)
def test_a_consumer_shows_answers_and_only_committed_ones(
    client: str, kafka: KafkaCluster, topics: Callable[..., Topics], tmp_path: Path
) -> None:
    names = topics()
    full = (RANKED_LISTS / "ranked-list.full.json").read_bytes()
    reduced = (RANKED_LISTS / "ranked-list.reduced.json").read_bytes()
    take_back(kafka, names, {**json.loads(full), "query_id": "taken-back"})
    produce(kafka.bootstrap_servers, names.results, [Outgoing(b"q-2", full)])
    with reader(client, kafka, names, tmp_path / "first") as said:
        said.await_text("  2. d2 -1.3\n")
        assert said.text() == "q-2 full \n  1. d7 4.12\n  2. d2 -1.3\n"
        produce(kafka.bootstrap_servers, names.results, [Outgoing(b"q-1", reduced)])
        said.await_text("q-1 reduced deadline\n  1. d12 2.5\n  2. d40 None\n")


class Said:
    """What a running example has printed so far."""

    def __init__(self, process: subprocess.Popen[bytes], path: Path) -> None:
        self._process = process
        self._path = path

    def text(self) -> str:
        return self._path.read_text()

    def await_text(self, text: str) -> None:
        def seen() -> bool:
            assert self._process.poll() is None, f"it ended: {self.text()}"
            return text in self.text()

        await_condition(seen, 240, lambda: f"it printed {self.text()!r}")


@contextmanager
def reader(client: str, kafka: KafkaCluster, topics: Topics, output: Path) -> Iterator[Said]:
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, EXAMPLES / f"consume_{client}.py"],
            env=environment(kafka, topics),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Said(process, output)
        finally:
            process.kill()
            process.wait()


def take_back(kafka: KafkaCluster, topics: Topics, ranked_list: dict[str, object]) -> None:
    """Writes a list in a transaction that is aborted, as by a worker that loses its place."""
    producer = Producer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "transactional.id": topics.group_id,
            "log_level": 0,
        }
    )
    producer.init_transactions(120)
    producer.begin_transaction()
    producer.produce(topics.results, json.dumps(ranked_list), key=str(ranked_list["query_id"]))
    producer.flush(120)
    producer.abort_transaction(120)
