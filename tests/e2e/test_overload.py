"""Ten times what the worker can score, on a real broker: tiers give way, and come back."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.overload import Load, Sender, sampling, sustainable
from schemas.events import RankedList
from tests.checker import Outgoing, assert_exactly_once, produce, read_topic, wait_for_count
from tests.e2e.conftest import StartWorker
from tests.services.kafka import KafkaCluster
from tests.services.topics import Topics
from tests.services.worker import await_metric
from tests.unit.tiny_retrieval import write_counting_model
from worker.settings import BatchSettings

LOAD = Load(candidates=20, words=30, deadline_ms=1500)
# Until all is well again, one event after the other is asked; this many must do.
PATIENCE = 60


@pytest.fixture(scope="module")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_counting_model(tmp_path_factory.mktemp("small"), "file")


def ranked(kafka: KafkaCluster, names: Topics) -> dict[str, RankedList]:
    return {
        record.query_id: RankedList.model_validate_json(record.value or b"")
        for record in read_topic(kafka.bootstrap_servers, names.results)
    }


@pytest.mark.slow
def test_tiers_give_way_under_ten_times_the_load_and_come_back(
    kafka: KafkaCluster,
    topics: Callable[..., Topics],
    start_worker: StartWorker,
    small_bundle: Path,
) -> None:
    names, bootstrap = topics(queries=2), kafka.bootstrap_servers
    sender = Sender(bootstrap, names.queries, LOAD)
    worker = start_worker(names, OVERLOAD__MODEL_BUNDLE=str(small_bundle))
    warm = sender.send("warm", 2, 3)
    wait_for_count(bootstrap, names.results, len(warm))

    with sampling(worker) as samples:
        under_load = sender.send("load", 10 * sustainable(worker, LOAD.candidates), 8)
        wait_for_count(bootstrap, names.results, len(warm) + len(under_load), timeout_s=400)

    after: list[str] = []
    for number in range(PATIENCE):
        after += sender.send(f"after-{number}", 1, 0)
        wait_for_count(bootstrap, names.results, len(warm) + len(under_load) + len(after))
        if ranked(kafka, names)[after[-1]].tier == "full":
            break
    else:
        pytest.fail(f"{PATIENCE} events after the load, none was answered in full")

    lists = ranked(kafka, names)
    assert_exactly_once([*warm, *under_load, *after], read_topic(bootstrap, names.results))
    tiers = {lists[name].tier for name in under_load}
    assert tiers & {"reduced", "retrieval_order"}, "nothing had to give way: was there a load?"
    for answer in lists.values():
        assert (answer.degraded is None) == (answer.tier == "full")
        assert len(answer.ranking) == 10
    small = [answer for answer in lists.values() if answer.model.name == "counts file"]
    assert small, "the smaller model was never asked"
    assert {answer.tier for answer in small} == {"reduced"}
    assert max(samples.waiting) < 2 * BatchSettings().max_events
    assert worker.metric("kafka_reranker_dead_letters_total") == 0
    digest = small[0].model.digest.removeprefix("sha256:")[:12]
    await_metric(worker, len(small), "kafka_reranker_answers_total", model=digest)


def test_one_enormous_event_does_not_hold_the_others_up(
    kafka: KafkaCluster, topics: Callable[..., Topics], start_worker: StartWorker
) -> None:
    """With a target age it gets what fits, and the small ones behind it are scored whole."""
    names, bootstrap = topics(), kafka.bootstrap_servers
    worker = start_worker(names, OVERLOAD__TARGET_AGE_MS="300000", BATCH__MAX_PAIRS="64")
    text = "a broker keeps the records of its topics in partitions " * 40
    candidates = [{"doc_id": f"d{n}", "text": f"{n} {text}"} for n in range(300)]
    enormous = {"query_id": "enormous", "query": "what is a broker", "candidates": candidates}
    events = [enormous] + [
        {"query_id": f"q-{n}", "query": "what is a broker", "candidates": candidates[n : n + 1]}
        for n in range(10)
    ]
    produce(
        bootstrap,
        names.queries,
        [Outgoing(str(one["query_id"]).encode(), json.dumps(one).encode()) for one in events],
    )
    results = wait_for_count(bootstrap, names.results, len(events), timeout_s=400)

    lists = {one.query_id: RankedList.model_validate_json(one.value or b"") for one in results}
    assert_exactly_once([str(one["query_id"]) for one in events], results)
    assert len(lists["enormous"].ranking) == 10
    assert {lists[f"q-{n}"].tier for n in range(10)} == {"full"}
    await_metric(worker, len(events), "kafka_reranker_batch_events_sum")
    assert worker.metric("kafka_reranker_batch_events_count") >= 2, "it had no batch of its own"
