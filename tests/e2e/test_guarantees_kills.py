"""The long form's scenarios in short: `make chaos` plays them over 10,000 events.

The seed is another one each time, and said where a test fails; CHAOS_SEED plays it again.
"""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.scenarios import Outcome, Plan, run
from tests.services.kafka import KafkaCluster

SEED = int(os.environ.get("CHAOS_SEED", random.randrange(10_000)))
Note = Callable[[str, object], None]


def play(plan: Plan, cluster: KafkaCluster, folder: Path, note: Note) -> Outcome:
    outcome = run(plan, cluster, folder, print)
    assert outcome.kills == plan.kills
    assert outcome.broker_restarts == plan.broker_restarts
    note("figures", outcome.summary)
    return outcome


def test_killed_workers(kafka: KafkaCluster, tmp_path: Path, record_property: Note) -> None:
    play(Plan("kills", 800, 3, SEED, workers=2), kafka, tmp_path, record_property)


def test_one_worker_three_and_one_again(
    kafka: KafkaCluster, tmp_path: Path, record_property: Note
) -> None:
    plan = Plan("scaling", 2_000, 1, SEED, workers=1, scale={0.1: 3, 0.7: 1})
    outcome = play(plan, kafka, tmp_path, record_property)
    assert outcome.starts >= 3


def test_killed_workers_and_a_killed_broker(
    kafka_cluster: Callable[..., KafkaCluster], tmp_path: Path, record_property: Note
) -> None:
    plan = Plan("broker", 800, 1, SEED, workers=2, broker_restarts=1)
    play(plan, kafka_cluster(), tmp_path, record_property)


@pytest.mark.slow
def test_three_nodes_lose_one(
    kafka_cluster: Callable[..., KafkaCluster], tmp_path: Path, record_property: Note
) -> None:
    plan = Plan("leader", 800, 1, SEED, workers=2, broker_restarts=1, nodes=3)
    play(plan, kafka_cluster(3), tmp_path, record_property)
