"""Autoscaling with a real broker, its real lag, and workers that really start and stop."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from bench.autoscale import ages_of, busy_rate, cost_per_million, figures, table
from bench.autoscale_play import Outcome, Plan, Sample, play
from bench.load import Phase, arrivals, parse_trace
from bench.scaler import rules_of_manifest
from tests.services.kafka import KafkaCluster
from tests.services.topics import Topics

# All times of the manifest are so much shorter: 0.5 s between decisions, 10 s back for going down.
SPEEDUP = 30
PARTITIONS = 3


@pytest.mark.slow
def test_a_burst_brings_workers_and_its_end_takes_them_away(
    kafka: KafkaCluster,
    topics: Callable[..., Topics],
    model_bundle: Path,
    tmp_path: Path,
) -> None:
    """One to three workers and back, and each of the queries is answered once."""
    names = topics(queries=PARTITIONS, results=PARTITIONS)
    rules = rules_of_manifest(threshold=5, least=1, most=PARTITIONS, speedup=SPEEDUP)
    plan = Plan([Phase(2, 2), Phase(4, 40)], rules, PARTITIONS, 10, 30, model_bundle)

    outcome = play(plan, kafka, names, tmp_path)

    numbers = [sample.workers for sample in outcome.samples]
    assert numbers[0] == numbers[-1] == 1
    assert max(numbers) == PARTITIONS
    downs = [
        (after.at_s, before.chosen - after.chosen)
        for before, after in pairwise(outcome.samples)
        if after.chosen < before.chosen
    ]
    assert [step for _, step in downs] == [1, 1]
    assert downs[1][0] - downs[0][0] >= 60 / SPEEDUP
    lags = [sample.lag for sample in outcome.samples]
    assert max(lags) > rules.threshold
    assert lags[-1] == 0
    # Reads the results, and fails unless there is exactly one for each query.
    ages_s = ages_of(kafka.bootstrap_servers, outcome)
    found = figures(outcome, ages_s, price_per_worker_hour=0.04)
    assert found.queries == len(ages_s)
    assert found.worker_hours > 0
    assert 0 < found.cost_per_million < float("inf")


def sample(at_s: float, asked: int, lag: int, workers: int) -> Sample:
    return Sample(at_s, asked, lag, workers, workers, workers)


def outcome_of(samples: list[Sample]) -> Outcome:
    rules = rules_of_manifest(threshold=10, least=1, most=3)
    plan = Plan([], rules, PARTITIONS, 10, 30, Path())
    return Outcome(plan, samples, ["q"], 1.0, Topics("q", "r", "f", "d", "g"))


def test_throughput_is_that_of_workers_that_have_work() -> None:
    samples = [
        sample(0, 0, 0, 1),
        sample(10, 100, 80, 1),  # from nothing to do to something: not counted
        sample(20, 100, 40, 2),  # 40 answers by one worker in 10 s
        sample(30, 100, 0, 2),  # to nothing to do: not counted
    ]
    assert busy_rate(outcome_of(samples)) == 4.0
    assert busy_rate(outcome_of(samples[:2])) == 0.0


def test_the_cost_follows_from_throughput_and_price() -> None:
    assert cost_per_million(10, price_per_worker_hour=0.036) == 1.0
    assert cost_per_million(0, price_per_worker_hour=0.036) == float("inf")


def test_the_table_shows_each_change() -> None:
    samples = [sample(0, 0, 0, 1), sample(1, 5, 5, 1), sample(2, 9, 8, 2), sample(3, 9, 0, 2)]
    lines = table(samples, every_s=10).splitlines()[2:]
    assert [line.split()[:4] for line in lines] == [
        ["0", "s", "0", "0"],
        ["2", "s", "9", "8"],
        ["3", "s", "9", "0"],
    ]
    assert lines[1].endswith("#" * 24)


def test_a_trace_is_repeatable_and_as_dense_as_it_says() -> None:
    trace = parse_trace("100:1,50:20,10:0")
    times = list(arrivals(trace, seed=1))
    assert times == list(arrivals(trace, seed=1))
    assert times == sorted(times)
    assert 60 < sum(time < 100 for time in times) < 140
    assert 850 < sum(100 <= time < 150 for time in times) < 1150
    assert not any(time >= 150 for time in times)
