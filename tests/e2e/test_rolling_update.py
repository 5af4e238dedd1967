"""A rolling update to a new model: old and new on one topic and one Redis, and no mixed scores."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.bundles import open_model
from schemas.events import RankedList
from tests.checker import Outgoing, produce, read_topic, wait_for_count
from tests.services.kafka import KafkaCluster
from tests.services.process import await_condition
from tests.services.topics import Topics
from tests.services.worker import PATIENT_REDIS, WorkerProcess, settings_for
from tests.unit.tiny_retrieval import write_counting_model

PARTITIONS = 2
ASKED = 40
# What each document has of the word that the old model counts, and of the new one's.
FILES, LINES = 3, 1
DOCUMENT = "file " * FILES + "line " * LINES
ASSIGNED = "kafka_reranker_assigned_partitions"


def questions(round_: int) -> list[Outgoing]:
    """The same questions in each round, under other ids."""
    events = [
        {
            "query_id": f"{round_}-{number}",
            "query": "dog",
            "candidates": [
                {"doc_id": "both", "text": f"{DOCUMENT} d{number}"},
                {"doc_id": "none", "text": f"fox d{number}"},
            ],
        }
        for number in range(ASKED)
    ]
    return [
        Outgoing(key=str(event["query_id"]).encode(), value=json.dumps(event).encode())
        for event in events
    ]


def scores(answer: RankedList) -> dict[str, float | None]:
    return {document.doc_id: document.score for document in answer.ranking}


@pytest.mark.slow
def test_old_and_new_share_topic_and_redis_and_no_score(
    kafka: KafkaCluster, topics: Callable[..., Topics], redis_url: str, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    names = topics(queries=PARTITIONS, results=PARTITIONS)
    old, new = (write_counting_model(tmp_path / word, word) for word in ("file", "line"))
    right: dict[str, dict[str, float | None]] = {
        open_model(old).digest: {"both": float(FILES), "none": 0.0},
        open_model(new).digest: {"both": float(LINES), "none": 0.0},
    }
    rounds: list[list[RankedList]] = []

    def worker(bundle: Path) -> WorkerProcess:
        settings = settings_for(
            kafka.bootstrap_servers, names, bundle, None, redis_url, **PATIENT_REDIS
        )
        return WorkerProcess(tmp_path, f"worker-{bundle.parent.name}", settings).start()

    def ask() -> list[RankedList]:
        produce(kafka.bootstrap_servers, names.queries, questions(len(rounds)))
        wait_for_count(kafka.bootstrap_servers, names.results, ASKED * (len(rounds) + 1))
        records = read_topic(kafka.bootstrap_servers, names.results)
        answers = [RankedList.model_validate_json(record.value or b"") for record in records]
        rounds.append([each for each in answers if each.query_id.startswith(f"{len(rounds)}-")])
        assert len({each.query_id for each in rounds[-1]}) == ASKED
        return rounds[-1]

    before = worker(old)
    try:
        first = ask()
        after = worker(new)
        try:
            await_condition(
                lambda: before.metric(ASSIGNED) == after.metric(ASSIGNED) == 1,
                240,
                lambda: "the workers do not share the partitions",
            )
            both = ask()
            before.process.terminate()
            last = ask()
        finally:
            after.process.terminate()
    finally:
        before.process.terminate()

    for answer in [*first, *both, *last]:
        assert scores(answer) == right[answer.model.digest], answer
    digests = list(right)
    assert {each.model.digest for each in first} == {digests[0]}
    assert {each.model.digest for each in last} == {digests[1]}
    # Side by side: what the old one had scored is a hit for it, and nothing to the new one.
    hits = {(each.model.digest, each.cache.hits) for each in both}
    assert hits == {(digests[0], 2), (digests[1], 0)}
    # The new one's own scores of the round before are hits.
    assert {each.cache.hits for each in last} == {0, 2}
