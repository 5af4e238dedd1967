"""What is wrong at start with Kafka there: said in one line."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.processes import assert_one_line, run_worker
from tests.services.kafka import KafkaCluster
from tests.services.topics import Topics
from tests.unit.tiny_retrieval import write_counting_model
from worker.errors import EXIT_CONFIG


@pytest.fixture
def flags(kafka: KafkaCluster, topics: Callable[..., Topics], tmp_path: Path) -> dict[str, str]:
    """Flags of a worker that could start."""
    names = topics()
    return {
        "--model-bundle": str(write_counting_model(tmp_path, "file")),
        "--kafka.bootstrap-servers": kafka.bootstrap_servers,
        "--kafka.group-id": names.group_id,
        "--kafka.topics.queries": names.queries,
        "--kafka.topics.results": names.results,
        "--kafka.topics.feedback": names.feedback,
        "--kafka.topics.dead-letters": names.dead_letters,
        "--http.host": "127.0.0.1",
        "--http.port": "0",
    }


def start(flags: dict[str, str]) -> list[str]:
    return [word for pair in flags.items() for word in pair]


@pytest.mark.parametrize("topic", ["queries", "results", "feedback", "dead-letters"])
def test_a_topic_that_does_not_exist(flags: dict[str, str], topic: str) -> None:
    done = run_worker(*start({**flags, f"--kafka.topics.{topic}": "no.such.topic"}))
    assert_one_line(done, EXIT_CONFIG, f"kafka.topics.{topic.replace('-', '_')}", "'no.such.topic'")


def test_a_port_in_use(flags: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_worker(*start({**flags, "--http.port": port}))
    assert done.returncode == EXIT_CONFIG
    said = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(said) == 1
    assert "RERANKER_HTTP__PORT" in said[0]
    assert port in said[0]


def test_a_time_out_that_the_broker_does_not_allow(flags: dict[str, str]) -> None:
    """The broker's transaction.max.timeout.ms is 15 minutes."""
    done = run_worker(
        *start(
            {
                **flags,
                "--kafka.transaction-timeout-ms": "1000000",
                "--kafka.max-poll-interval-ms": "2000000",
            }
        )
    )
    assert done.returncode == EXIT_CONFIG
    assert "Traceback" not in done.stderr
    assert "kafka-reranker: " in done.stderr.splitlines()[-1]
