"""`python -m bench.redis_faults`: what each fault of Redis costs a worker's answers.

One question after the other, on a real broker and a real Redis behind a proxy, with the default
settings of the cache. Says how old answers were, and whether the rankings stayed the same.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from bench.overload import Load, at
from tests.checker import Record, wait_for_count
from tests.services.kafka import KafkaCluster
from tests.services.proxy import Proxy
from tests.services.redis import RedisServer
from tests.services.topics import Topics, create_topics
from tests.services.worker import WorkerProcess, settings_for

LOAD = Load(candidates=10, words=30, deadline_ms=60_000)
# Different questions, asked in turn: each was scored before, so a cache that works knows it.
QUESTIONS = 5


class Asker:
    """Asks one question after the other, over one connection."""

    def __init__(self, bootstrap: str, topics: Topics) -> None:
        self._bootstrap = bootstrap
        self._topics = topics
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "linger.ms": 0, "log_level": 0, "acks": 1}
        )
        self._asked = 0

    def ask(self, count: int) -> list[tuple[float, Record]]:
        """Return each answer with its age in milliseconds when it was written."""
        answers = []
        for number in range(count):
            name = f"q-{number % QUESTIONS}"
            sent: list[int] = []
            self._producer.produce(
                self._topics.queries,
                LOAD.event(name),
                name,
                on_delivery=lambda _error, message, sent=sent: sent.append(message.timestamp()[1]),
            )
            assert self._producer.flush(30) == 0, "a question was not delivered"
            self._asked += 1
            answer = wait_for_count(self._bootstrap, self._topics.results, self._asked)[-1]
            answers.append((float(answer.timestamp - sent[0]), answer))
        return answers


@contextmanager
def fault(begin: Callable[[], None], end: Callable[[], None]) -> Iterator[None]:
    """Hold a fault for as long as the block takes."""
    begin()
    try:
        yield
    finally:
        end()


def figures(
    asker: Asker, worker: WorkerProcess, count: int, right: Mapping[str, Any]
) -> dict[str, Any]:
    """Ask, and sum up."""
    before = worker.metric("kafka_reranker_cache_failures_total")
    asked = asker.ask(count)
    ages = sorted(age for age, _ in asked)
    answers = [answer.json() for _, answer in asked]
    return {
        "asked": count,
        "p50_ms": at(ages, 0.5),
        "p99_ms": at(ages, 0.99),
        "most_ms": ages[-1],
        "hits": sum(answer["cache"]["hits"] for answer in answers),
        "failures": worker.metric("kafka_reranker_cache_failures_total") - before,
        "same_rankings": all(answer["ranking"] == right[answer["query_id"]] for answer in answers),
    }


def run(chosen: argparse.Namespace, folder: Path, cluster: KafkaCluster) -> dict[str, Any]:
    """Play each fault and return the figures."""
    with RedisServer() as redis, Proxy(redis.address) as proxy:
        topics = create_topics(cluster)
        url = f"redis://{proxy.address}/0"
        settings = settings_for(
            cluster.bootstrap_servers, topics, chosen.model_bundle, redis_url=url
        )
        worker = WorkerProcess(folder, "worker", settings).start()
        asker = Asker(cluster.bootstrap_servers, topics)

        def reopen() -> None:
            proxy.cut()
            proxy.open()

        def nothing() -> None:
            pass

        faults: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
            "none": (nothing, nothing),
            "refused": (proxy.refuse, proxy.open),
            "black hole": (proxy.black_hole, reopen),
            "stalled": (proxy.stall, reopen),
            "frozen": (redis.pause, redis.resume),
            "emptied": (redis.restart, nothing),
        }
        try:
            right = {
                answer.query_id: answer.json()["ranking"] for _, answer in asker.ask(QUESTIONS)
            }
            found = {}
            for name, (begin, end) in faults.items():
                with fault(begin, end):
                    found[name] = figures(asker, worker, chosen.count, right)
            return found
        finally:
            worker.process.terminate()


def main(arguments: Sequence[str]) -> int:
    """Run, print, and return 1 where a ranking was another."""
    parser = argparse.ArgumentParser(prog="python -m bench.redis_faults", description=__doc__)
    parser.add_argument("--model-bundle", type=Path, required=True)
    parser.add_argument("--count", type=int, default=40, help="questions for each fault")
    parser.add_argument("--json", type=Path, metavar="FILE")
    chosen = parser.parse_args(arguments)
    chosen.model_bundle = chosen.model_bundle.resolve()
    with tempfile.TemporaryDirectory() as folder, KafkaCluster() as cluster:
        report = run(chosen, Path(folder), cluster)
    sys.stdout.write(
        f"{'fault':12} {'p50 ms':>8} {'p99 ms':>8} {'most':>8} {'hits':>6}  rankings\n"
    )
    for name, each in report.items():
        same = "the same" if each["same_rankings"] else "DIFFERENT"
        sys.stdout.write(
            f"{name:12} {each['p50_ms']:>8.0f} {each['p99_ms']:>8.0f} {each['most_ms']:>8.0f} "
            f"{each['hits']:>6}  {same}\n"
        )
    if chosen.json is not None:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if all(each["same_rankings"] for each in report.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
