"""`python -m bench.overload`: ten times the sustainable load, on a real broker and a real worker.

A calm phase, the overload, and a calm phase again. Says how each event was answered, how old it
was then, how much memory the worker took, and how soon all was well again.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from tests.checker import Record, assert_exactly_once, read_topic, wait_for_count
from tests.services.kafka import KafkaCluster
from tests.services.topics import Topics, create_topics
from tests.services.worker import WorkerProcess, settings_for

TEXT = "the broker keeps records of its topics in partitions and a reader asks for lines"
WORDS = TEXT.split()
CALM_SHARE = 0.3
SAMPLE_S = 0.25


@dataclass(frozen=True)
class Load:
    """Events that are all alike; texts differ, so that no cache knows them."""

    candidates: int
    words: int
    deadline_ms: int

    def event(self, name: str) -> bytes:
        """Return one event."""
        texts = (
            " ".join(WORDS[(at * at + number) % len(WORDS)] for at in range(self.words))
            for number in range(self.candidates)
        )
        candidates = [
            {"doc_id": f"d{number}", "text": f"{name} {number} {text}"}
            for number, text in enumerate(texts)
        ]
        event = {"query_id": name, "query": f"what is {name}", "deadline_ms": self.deadline_ms}
        return json.dumps({**event, "candidates": candidates}).encode()


@dataclass
class Samples:
    """What the worker took up over time."""

    rss_mb: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Sender:
    """Sends events at an even rate."""

    bootstrap: str
    topic: str
    load: Load

    def send(self, prefix: str, rate: float, seconds: float) -> list[str]:
        """Send for a while; return the ids of what was sent."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 1, "log_level": 0})
        names: list[str] = []
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds or not names:
            while len(names) < rate * passed:
                names.append(f"{prefix}-{len(names)}")
                producer.produce(self.topic, self.load.event(names[-1]), names[-1])
            producer.poll(0.01)
        assert producer.flush(60) == 0, "not all events were delivered"
        return names


@contextmanager
def sampling(worker: WorkerProcess) -> Iterator[Samples]:
    """Look at the worker's memory and queue until the end of the block."""
    samples, stop = Samples(), threading.Event()

    def look() -> None:
        while not stop.wait(SAMPLE_S):
            samples.rss_mb.append(rss_mb(worker.process.pid))
            samples.waiting.append(worker.metric("kafka_reranker_waiting_events"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@dataclass(frozen=True)
class Phase:
    """What became of the events of a phase. Ages in milliseconds."""

    events: int
    tiers: Mapping[str, int]
    age_p50: float
    age_p99: float
    within: float

    @classmethod
    def of(cls, ages: Sequence[float], answers: Sequence[Record], deadline_ms: int) -> "Phase":
        """Sum up sorted ages and the answers."""
        tiers: Counter[str] = Counter()
        for record in answers:
            answer = record.json()
            by = answer["model"]["name"] if answer["tier"] == "reduced" else ""
            tiers[f"{answer['tier']} {by}".strip()] += 1
        in_time = sum(age <= 1.1 * deadline_ms for age in ages)
        return cls(len(ages), tiers, at(ages, 0.5), at(ages, 0.99), in_time / len(ages))


def at(values: Sequence[float], share: float) -> float:
    """Return a quantile of sorted values."""
    return float(values[min(len(values) - 1, int(share * len(values)))])


def sustainable(worker: WorkerProcess, candidates: int) -> float:
    """Return how many events a second the worker says that it can score."""
    return worker.metric("kafka_reranker_capacity_pairs_per_second") / candidates


def run(chosen: argparse.Namespace, folder: Path, cluster: KafkaCluster) -> dict[str, Any]:
    """Play the three phases and return the figures."""
    load = Load(chosen.candidates, chosen.words, chosen.deadline_ms)
    topics = create_topics(cluster, queries=4)
    bootstrap = cluster.bootstrap_servers
    settings = settings_for(bootstrap, topics, chosen.model_bundle)
    if chosen.small_bundle:
        settings["RERANKER_OVERLOAD__MODEL_BUNDLE"] = str(chosen.small_bundle)
    sender = Sender(bootstrap, topics.queries, load)
    worker = WorkerProcess(folder, "worker", settings)
    worker.start()
    try:
        # The worker measures itself at this kind of event first.
        warm = sender.send("warm", 2, 5)
        wait_for_count(bootstrap, topics.results, len(warm))
        rate = sustainable(worker, load.candidates)
        sent = {"warm": warm}
        with sampling(worker) as samples:
            for name, share, seconds in (
                ("calm", CALM_SHARE, chosen.calm_seconds),
                ("overload", chosen.times, chosen.seconds),
                ("after", CALM_SHARE, chosen.calm_seconds),
            ):
                began_at = len(samples.rss_mb)
                sent[name] = sender.send(name, share * rate, seconds)
                if name == "overload":
                    during = samples.rss_mb[began_at:]
            await_all(bootstrap, topics, sum(map(len, sent.values())))
    finally:
        worker.process.terminate()
    queries = {one.query_id: one for one in read_topic(bootstrap, topics.queries)}
    records = read_topic(bootstrap, topics.results)
    assert_exactly_once(list(queries), records)
    results = {one.query_id: one for one in records}
    return {
        "sustainable_events_per_s": round(rate, 2),
        "times": chosen.times,
        "seconds": chosen.seconds,
        "deadline_ms": load.deadline_ms,
        "phases": {
            name: vars(
                Phase.of(
                    sorted(results[one].timestamp - queries[one].timestamp for one in names),
                    [results[one] for one in names],
                    load.deadline_ms,
                )
            )
            for name, names in sent.items()
        },
        "recovered_after_s": recovered_after_s(sent["after"], queries, results),
        "rss_mb": {
            "before": round(samples.rss_mb[0], 1),
            "overload_by_quarters": [
                round(at(during, share), 1) for share in (0.25, 0.5, 0.75, 1.0)
            ],
            "most": round(max(samples.rss_mb), 1),
            "after": round(samples.rss_mb[-1], 1),
        },
        "waiting_events_most": max(samples.waiting),
    }


def await_all(bootstrap: str, topics: Topics, count: int) -> None:
    """Wait until all have an answer."""
    wait_for_count(bootstrap, topics.results, count, timeout_s=300)


def recovered_after_s(
    after: Sequence[str], queries: Mapping[str, Record], results: Mapping[str, Record]
) -> float | None:
    """Return when, after the overload, the first event came from which on all answers are full."""
    full_since: float | None = None
    first = queries[after[0]].timestamp
    for name in after:
        if results[name].json()["tier"] != "full":
            full_since = None
        elif full_since is None:
            full_since = (queries[name].timestamp - first) / 1000
    return full_since


def main(arguments: Sequence[str]) -> int:
    """Run, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--model-bundle", type=Path, required=True)
    parser.add_argument("--small-bundle", type=Path, help="overload.model_bundle")
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--words", type=int, default=40, help="of each candidate")
    parser.add_argument("--deadline-ms", type=int, default=1000)
    parser.add_argument("--times", type=float, default=10, help="the sustainable load")
    parser.add_argument("--seconds", type=float, default=30, help="of overload")
    parser.add_argument("--calm-seconds", type=float, default=10)
    parser.add_argument("--json", type=Path, metavar="FILE")
    chosen = parser.parse_args(arguments)
    chosen.model_bundle = chosen.model_bundle.resolve()
    chosen.small_bundle = chosen.small_bundle and chosen.small_bundle.resolve()
    with tempfile.TemporaryDirectory() as folder, KafkaCluster() as cluster:
        report = run(chosen, Path(folder), cluster)
    show(report, print)
    if chosen.json is not None:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def show(report: Mapping[str, Any], out: Callable[[str], None]) -> None:
    """Print the figures for people."""
    rate, deadline_ms = report["sustainable_events_per_s"], report["deadline_ms"]
    out(f"sustainable: {rate} events/s; deadline {deadline_ms} ms; {report['times']} times that")
    out(f"{'phase':10} {'events':>7} {'p50 ms':>8} {'p99 ms':>8} {'<=110 %':>8}  tiers")
    for name, phase in report["phases"].items():
        tiers = ", ".join(f"{tier} {count}" for tier, count in sorted(phase["tiers"].items()))
        out(
            f"{name:10} {phase['events']:>7} {phase['age_p50']:>8.0f} {phase['age_p99']:>8.0f} "
            f"{phase['within']:>8.1%}  {tiers}"
        )
    out(f"all full again {report['recovered_after_s']} s after the overload")
    out(f"memory (MB): {report['rss_mb']}")
    out(f"most events waiting: {report['waiting_events_most']:.0f}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
