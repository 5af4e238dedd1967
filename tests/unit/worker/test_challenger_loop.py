"""A comparison through the whole loop: done again by another worker, it says the same once."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from engine.lanes import Lanes
from tests.fakes import worker as fakes
from tests.fakes.clock import FakeClock
from tests.fakes.encoder import tiny_encoder
from tests.fakes.events import event_json
from tests.fakes.memory_cluster import MemoryCluster
from tests.fakes.store import FakeStore
from tests.fakes.worker import GROUP, MODEL, TOPICS, Options, counter, new_cluster, new_worker
from tests.unit.worker.test_challenger import OTHER, Negated, trial
from worker.caches import PairCache
from worker.challenger import Challenger
from worker.metrics import short_digest
from worker.records import Partition
from worker.reranker import Reranker
from worker.scoring import PairScorer

COUNT = 24
QUERIES = Partition(TOPICS.queries, 0)
TEXTS = [f"text number {n}" for n in range(6)]


@pytest.fixture(params=["split", "interleave"])
def compared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Workers from fakes have a challenger of the opposite opinion."""
    lanes = Lanes(Negated(), 2)
    plain = fakes.new_reranker

    def with_challenger(clock: FakeClock, own: Lanes, options: Options) -> Reranker:
        scorer = PairScorer(tiny_encoder(), lanes, PairCache(FakeStore(), OTHER.digest))
        made = plain(clock, own, options)
        fields = {name: getattr(made, name) for name in made.__dataclass_fields__}
        challenger = Challenger(scorer, OTHER, trial(request.param, share=0.5))
        return Reranker(**{**fields, "challenger": challenger})

    monkeypatch.setattr(fakes, "new_reranker", with_challenger)
    yield request.param
    lanes.close()


def ask(cluster: MemoryCluster) -> None:
    for n in range(COUNT):
        value = event_json(f"q{n}", texts=TEXTS)
        cluster.produce(TOPICS.queries, value, key=f"q{n}".encode())


def reached(cluster: MemoryCluster, target: int) -> bool:
    return cluster.group(GROUP).committed.get(QUERIES, 0) >= target


def told(cluster: MemoryCluster, topic: str) -> list[Any]:
    """What stands on a topic, without what a clock or a cache sets."""
    events = [json.loads(record.value or b"") for record in cluster.read(topic)]
    volatile = ("timings_ms", "cache")
    return [{key: event[key] for key in event if key not in volatile} for event in events]


def test_work_that_is_done_again_says_the_same_once(compared: str) -> None:
    """One run goes through; the other loses its partitions again and again on the way."""
    results = []
    for shaken in (False, True):
        cluster = new_cluster()
        ask(cluster)
        worker = new_worker(cluster)
        for target in (4, 12) if shaken else ():
            worker.step_until(partial(reached, cluster, target))
            cluster.rebalance(GROUP, TOPICS.queries)
        worker.step_until(partial(reached, cluster, COUNT))
        results.append([told(cluster, TOPICS.results), told(cluster, TOPICS.feedback)])
        own = counter(worker, "pairs_total", model=short_digest(MODEL.digest), **{"from": "model"})
        theirs = counter(
            worker, "pairs_total", model=short_digest(OTHER.digest), **{"from": "model"}
        )
        assert min(own, theirs) > 0
        worker.close()
    assert results[0] == results[1]
    lists, impressions = results[0]
    assert [each["query_id"] for each in lists] == [f"q{n}" for n in range(COUNT)]
    parts = [each.get("experiment") for each in lists]
    assert parts == [each.get("experiment") for each in impressions]
    arms = {part and part["arm"] for part in parts}
    expected = {"champion", "challenger"} if compared == "split" else {"interleaved", None}
    assert arms == expected
