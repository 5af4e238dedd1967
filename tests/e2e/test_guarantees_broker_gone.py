"""The broker goes away for good in the midst of a commit."""

import time
from collections.abc import Callable

import pytest

from tests.chaos.faults import Fault
from tests.chaos.load import make_events
from tests.chaos.settings import TRANSACTION_TIMEOUT_S
from tests.e2e.chaos_bench import MakeBench, await_end, await_reached
from tests.services.kafka import KafkaCluster
from tests.services.topics import create_topics

EVENTS = 60
# A process whose commit nobody bounds never ends, so that a busy machine may have all the time.
PATIENCE_S = 120.0


@pytest.mark.parametrize("how", ["killed", pytest.param("stopped", marks=pytest.mark.long)])
def test_without_a_broker_a_commit_ends_the_process(
    kafka_cluster: Callable[..., KafkaCluster],
    benches: MakeBench,
    how: str,
    record_property: Callable[[str, object], None],
) -> None:
    """Whichever call waits, the process ends, non-zero (how long it may take: see
    `test_kafka_broker.py`), and the next worker loses and repeats nothing.
    """
    cluster = kafka_cluster()
    faults = [
        Fault("wait", "before", "results", 9),
        Fault("wait", "before", "offsets", 2),
        Fault("wait", "before", "commit", 2),
    ]
    places = [benches(cluster.bootstrap_servers, create_topics(cluster)) for _ in faults]
    running = []
    for place, fault in zip(places, faults, strict=True):
        place.ask(make_events(EVENTS, seed=5))
        running.append(place.faulty(fault))
    for worker, signals in running:
        await_reached(worker, signals)
    if how == "killed":
        cluster.kill()
    else:
        cluster.pause()
    for _, signals in running:
        signals.go()
    began_s = time.monotonic()
    for worker, _ in running:
        assert await_end(worker, PATIENCE_S) == 70, worker.log()
    took_s = time.monotonic() - began_s
    record_property(
        "figures",
        f"broker {how}: {took_s:.1f} s, transactions time out in {TRANSACTION_TIMEOUT_S} s",
    )
    if how == "killed":
        cluster.restart()
    else:
        cluster.resume()
    for place in places:
        place.worker()
    for place in places:
        place.check()
