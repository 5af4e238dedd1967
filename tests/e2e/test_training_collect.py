"""`training collect` on a real topic: read_committed, each event once over a SIGKILL, bounded."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from tests.services.kafka import KafkaCluster
from tests.services.process import await_condition
from tests.services.topics import Topics
from training.collect.command import collect
from training.collect.store import event_files
from training.errors import InputError, KafkaReadError
from training.plan_data import CollectPlan, KafkaPlan
from training.run_folder import RunFolder

EVENTS = 1200
FLUSH_ROWS = 40


def click(number: int) -> dict[str, Any]:
    return {"kind": "click", "query_id": f"q-{number}", "doc_id": "d", "position": 1}


@contextmanager
def producer(kafka: KafkaCluster, **options: Any) -> Iterator[Any]:
    made = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, acks="all", **options)
    yield made
    made.close()


def send(to: Any, topic: str, value: bytes, event_id: str | None = None) -> Any:
    headers = [] if event_id is None else [("ce_id", event_id.encode())]
    key = json.loads(value)["query_id"].encode() if event_id else None
    return to.send(topic, key=key, value=value, headers=headers)


def plan_of(kafka: KafkaCluster, topics: Topics, **options: Any) -> CollectPlan:
    source = KafkaPlan(
        bootstrap_servers=kafka.bootstrap_servers,
        topic=topics.feedback,
        group_id=f"{topics.group_id}.training",
        timeout_s=120,
    )
    return CollectPlan(kafka=source, **options)


def ids(run: RunFolder) -> list[str]:
    tables = [pq.read_table(file, columns=["event_id"]) for file in event_files(run, "click")]
    return [str(one) for table in tables for one in table["event_id"].to_pylist()]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_a_killed_collect_goes_on_and_keeps_each_event_once(
    kafka: KafkaCluster, topics: Callable[..., Topics], run: RunFolder, tmp_path: Path
) -> None:
    names = topics(feedback=3)
    with producer(kafka) as to:
        sent = [
            send(to, names.feedback, json.dumps(click(number)).encode(), f"e-{number}")
            for number in [*range(EVENTS), *range(0, EVENTS, 3)]  # every third comes twice
        ]
        for one in sent:
            one.get(timeout=120)
    plan = plan_of(kafka, names, flush_rows=FLUSH_ROWS)
    file = tmp_path / "plan.yaml"
    file.write_text(json.dumps({"collect": plan.model_dump(mode="json")}))
    command = [sys.executable, "-m", "training", "collect", "--plan", file, "--run", run.path]
    process = subprocess.Popen([*map(str, command), "--follow"], stderr=subprocess.DEVNULL)
    try:
        await_condition(lambda: len(event_files(run, "click")) >= 2, 240, lambda: "no files came")
    finally:
        process.kill()
        process.wait()
    found = collect(plan, run)
    # What is in memory is bounded: less than two batches of the consumer.
    sizes = [pq.read_metadata(path).num_rows for path in event_files(run, "click")]
    assert max(sizes) < 2 * FLUSH_ROWS
    assert sorted(ids(run)) == sorted(f"e-{number}" for number in range(EVENTS))
    assert found["kept"]["click"] == EVENTS
    assert found["kept"]["duplicates"] == EVENTS // 3
    assert collect(plan, run)[names.feedback]["read"] == 0

    reader = KafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers, group_id=f"{names.group_id}.training"
    )
    places = [TopicPartition(names.feedback, number) for number in range(3)]
    assert sum(reader.committed(place) for place in places) == EVENTS * 4 // 3
    reader.close()


def test_sigterm_ends_following_in_good_order(
    kafka: KafkaCluster, topics: Callable[..., Topics], run: RunFolder, tmp_path: Path
) -> None:
    names = topics()
    with producer(kafka) as to:
        for number in range(FLUSH_ROWS + 5):
            send(to, names.feedback, json.dumps(click(number)).encode(), f"e-{number}")
    plan = plan_of(kafka, names, flush_rows=FLUSH_ROWS)
    file = tmp_path / "plan.yaml"
    file.write_text(json.dumps({"collect": plan.model_dump(mode="json")}))
    command = [sys.executable, "-m", "training", "collect", "--plan", file, "--run", run.path]
    process = subprocess.Popen([*map(str, command), "--follow"], stderr=subprocess.DEVNULL)
    try:
        await_condition(lambda: event_files(run, "click") != [], 240, lambda: "no files came")
        process.terminate()
        assert process.wait(timeout=240) == 0
    finally:
        process.kill()
        process.wait()
    collect(plan, run)
    assert sorted(ids(run)) == sorted(f"e-{number}" for number in range(FLUSH_ROWS + 5))
    sizes = [pq.read_metadata(path).num_rows for path in event_files(run, "click")]
    assert max(sizes) < 2 * FLUSH_ROWS


def test_aborted_events_are_not_read_and_the_end_is_found_behind_a_marker(
    kafka: KafkaCluster, topics: Callable[..., Topics], run: RunFolder
) -> None:
    names = topics()
    with producer(kafka, transactional_id=f"{names.group_id}.tx") as to:
        to.init_transactions()
        for number, commits in enumerate([True, False, True, False]):
            to.begin_transaction()
            send(to, names.feedback, json.dumps(click(number)).encode(), f"e-{number}").get(120)
            if commits:
                to.commit_transaction()
            else:
                to.abort_transaction()
    collect(plan_of(kafka, names), run)
    assert ids(run) == ["e-0", "e-2"]


def test_bad_records_are_quoted_unknown_kinds_skipped_and_too_many_refused(
    kafka: KafkaCluster, topics: Callable[..., Topics], run: RunFolder
) -> None:
    names = topics()
    values = [json.dumps(click(number)).encode() for number in range(8)]
    with producer(kafka) as to:
        for value in [*values, b"no json", b'{"kind": "smile", "query_id": "q"}']:
            send(to, names.feedback, value).get(timeout=120)
    with pytest.raises(InputError, match=r"1 of 10 are malformed \(10%\), more than"):
        collect(plan_of(kafka, names), run)
    assert ids(run) == []
    found = collect(plan_of(kafka, names, max_bad_share=0.2), run)
    assert found[names.feedback]["unknown_kinds"] == 1
    (quoted,) = found[names.feedback]["first_malformed"]
    assert quoted.startswith(f"{names.feedback}/0/8: Invalid JSON")
    assert quoted.endswith("'no json'")
    assert len(ids(run)) == 8


def test_no_topic_and_no_broker(
    kafka: KafkaCluster, topics: Callable[..., Topics], run: RunFolder, tmp_path: Path
) -> None:
    plan = plan_of(kafka, topics())
    assert plan.kafka is not None
    gone = plan.kafka.model_copy(update={"topic": "nowhere"})
    with pytest.raises(KafkaReadError, match=r"topic 'nowhere' does not exist"):
        collect(CollectPlan(kafka=gone), run)
    file = tmp_path / "plan.yaml"
    file.write_text("collect: {kafka: {bootstrap_servers: '127.0.0.1:1', timeout_s: 1}}")
    command = [sys.executable, "-m", "training", "collect", "--plan", file, "--run", run.path]
    ended = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=240, check=False
    )
    assert ended.returncode == 2
    said = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert said[0].startswith("error: kafka at 127.0.0.1:1 (collect.kafka.bootstrap_servers)")
    assert "Traceback" not in ended.stderr
