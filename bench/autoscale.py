"""What a run of the autoscaling simulation says: a table over time, percentiles, and the cost."""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.autoscale_play import Outcome, Plan, Sample, play
from bench.load import parse_trace
from bench.scaler import rules_of_manifest
from tests.checker import assert_exactly_once, read_topic
from tests.services.kafka import KafkaCluster
from tests.services.process import ServiceFailed, ServiceMissing
from tests.services.topics import create_topics

BAR = 24
SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class Figures:
    """The run in numbers. Ages are seconds from an event's timestamp to its answer's."""

    queries: int
    pairs: int
    most_lag: int
    most_workers: int
    age_p50_s: float
    age_p95_s: float
    age_max_s: float
    worker_hours: float
    queries_per_busy_worker_s: float
    cost_per_million: float
    cost_per_million_when_busy: float


def figures(outcome: Outcome, ages_s: Sequence[float], price_per_worker_hour: float) -> Figures:
    """Compute the numbers of a run."""
    queries, hours = len(outcome.query_ids), outcome.worker_s / SECONDS_AN_HOUR
    rate = busy_rate(outcome)
    ordered = sorted(ages_s)
    return Figures(
        queries=queries,
        pairs=queries * outcome.plan.candidates,
        most_lag=max(sample.lag for sample in outcome.samples),
        most_workers=max(sample.workers for sample in outcome.samples),
        age_p50_s=round(ordered[len(ordered) // 2], 2),
        age_p95_s=round(ordered[int(len(ordered) * 0.95)], 2),
        age_max_s=round(ordered[-1], 2),
        worker_hours=round(hours, 4),
        queries_per_busy_worker_s=round(rate, 2),
        cost_per_million=round(
            cost_per_million(queries / outcome.worker_s, price_per_worker_hour), 2
        ),
        cost_per_million_when_busy=round(cost_per_million(rate, price_per_worker_hour), 2),
    )


def busy_rate(outcome: Outcome) -> float:
    """Return the queries that a ready worker answers in a second while there is work for all."""
    answered = worker_s = 0.0
    for before, after in zip(outcome.samples, outcome.samples[1:], strict=False):
        if min(before.lag, after.lag) < outcome.plan.rules.threshold or not before.ready:
            continue
        answered += (after.asked - after.lag) - (before.asked - before.lag)
        worker_s += (after.at_s - before.at_s) * before.ready
    return answered / worker_s if worker_s else 0.0


def cost_per_million(queries_per_worker_s: float, price_per_worker_hour: float) -> float:
    """Return the price of a million queries at a throughput; infinite where there was none."""
    if queries_per_worker_s <= 0:
        return float("inf")
    return 1e6 / queries_per_worker_s / SECONDS_AN_HOUR * price_per_worker_hour


def ages_of(bootstrap: str, outcome: Outcome) -> list[float]:
    """Return the age of each answer, and check that there is exactly one for each query."""
    asked = {record.query_id: record for record in read_topic(bootstrap, outcome.topics.queries)}
    results = read_topic(bootstrap, outcome.topics.results)
    assert_exactly_once(outcome.query_ids, results)
    return [(record.timestamp - asked[record.query_id].timestamp) / 1000 for record in results]


def table(samples: Sequence[Sample], every_s: float) -> str:
    """Return lag and workers over time as text, a line for each `every_s` and each change."""
    most = max(1, *(sample.lag for sample in samples))
    lines = ["  time   asked     lag  ready/workers", ""]
    next_s, workers = 0.0, -1
    for sample in samples:
        if sample.at_s < next_s and sample.workers == workers and sample is not samples[-1]:
            continue
        next_s, workers = sample.at_s - sample.at_s % every_s + every_s, sample.workers
        bar = "#" * round(sample.lag / most * BAR)
        lines.append(
            f"{sample.at_s:5.0f} s {sample.asked:7d} {sample.lag:7d}  "
            f"{sample.ready}/{sample.workers} {'*' * sample.workers:<4} {bar}".rstrip()
        )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Play a trace and print the report."""
    chosen = _parser().parse_args(arguments)
    rules = rules_of_manifest(chosen.threshold, 1, chosen.max_workers, chosen.speedup)
    plan = Plan(
        trace=parse_trace(chosen.trace),
        rules=rules,
        partitions=chosen.partitions,
        candidates=chosen.candidates,
        words=chosen.words,
        model_bundle=chosen.model_bundle.resolve(),
    )
    try:
        with tempfile.TemporaryDirectory() as folder, KafkaCluster() as cluster:
            topics = create_topics(cluster, queries=plan.partitions, results=plan.partitions)
            outcome = play(plan, cluster, topics, Path(folder), tell=_tell)
            ages_s = ages_of(cluster.bootstrap_servers, outcome)
    except (ServiceMissing, ServiceFailed, AssertionError) as error:
        sys.stderr.write(f"autoscale: {error}\n")
        return 1
    found = figures(outcome, ages_s, chosen.price)
    sys.stdout.write(table(outcome.samples, chosen.every) + "\n\n")
    for name, value in asdict(found).items():
        sys.stdout.write(f"{name:28} {value}\n")
    if chosen.json is not None:
        samples = [asdict(sample) for sample in outcome.samples]
        chosen.json.write_text(json.dumps({"figures": asdict(found), "samples": samples}, indent=1))
    return 0


def _tell(sample: Sample) -> None:
    sys.stderr.write(
        f"{sample.at_s:6.1f} s: asked {sample.asked}, lag {sample.lag}, "
        f"{sample.ready} of {sample.workers} workers ready, {sample.chosen} wanted\n"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.autoscale",
        description="Play bursts of queries through a real broker and real workers, scaled by the "
        "formula of KEDA and the HorizontalPodAutoscaler.",
    )
    parser.add_argument("--model-bundle", type=Path, default=Path("build/model"))
    parser.add_argument(
        "--trace", default="30:1,60:12,60:1,45:9,30:0.5", help="SECONDS:QUERIES_PER_SECOND,…"
    )
    parser.add_argument("--partitions", type=int, default=3)
    parser.add_argument("--max-workers", type=int, default=3)
    parser.add_argument("--threshold", type=int, default=20, help="lag for each worker")
    parser.add_argument("--candidates", type=int, default=20, help="of each query")
    parser.add_argument("--words", type=int, default=60, help="of each candidate")
    parser.add_argument(
        "--speedup", type=float, default=10, help="the manifest's times are so much shorter"
    )
    parser.add_argument(
        "--price", type=float, default=0.04, help="of one worker (one scoring thread) an hour"
    )
    parser.add_argument("--every", type=float, default=10, help="seconds between lines")
    parser.add_argument("--json", type=Path, help="write all samples there")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
