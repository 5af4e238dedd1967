"""A worker on a real broker, and the application that asks it. Needs Java and Maven."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from bench.engine_bundles import BenchError
from bench.engine_timing import Timing
from tests.services.kafka import KafkaCluster
from tests.services.topics import Topics, create_topics
from tests.services.worker import WorkerProcess, settings_for

ANSWER_TIMEOUT_S = 180.0
POLL_S = 0.5
KIB = 1024

Event = tuple[str, bytes]


class Application:
    """Sends query events and reads ranked lists, as an application does."""

    def __init__(self, bootstrap: str, topics: Topics, partitions: int = 1) -> None:
        self._topics = topics
        self._producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0, "linger.ms": 0})
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "bench",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 100,
                "log_level": 0,
            }
        )
        self._consumer.assign([TopicPartition(topics.results, at, 0) for at in range(partitions)])

    def send(self, event: Event) -> None:
        """Hand an event to the broker, at once."""
        while True:
            try:
                self._producer.produce(self._topics.queries, key=event[0].encode(), value=event[1])
                break
            except BufferError:  # More is waiting than the client holds.
                self._producer.poll(POLL_S)
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until the broker has all that was sent."""
        self._producer.flush(ANSWER_TIMEOUT_S)

    def await_answers(self, query_ids: Sequence[str]) -> Mapping[str, float]:
        """Return when (`time.monotonic`) each answer could be read.

        Raises BenchError where none comes for ANSWER_TIMEOUT_S.
        """
        left, seen = set(query_ids), dict[str, float]()
        deadline_s = time.monotonic() + ANSWER_TIMEOUT_S
        while left:
            message = self._consumer.poll(POLL_S)
            now_s = time.monotonic()
            if now_s > deadline_s:
                raise BenchError(f"{len(left)} of {len(query_ids)} questions were not answered")
            if message is None:
                continue
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    continue
                raise BenchError(f"results can't be read: {error}")
            query_id = (message.key() or b"").decode()
            left.discard(query_id)
            seen[query_id] = now_s
            deadline_s = now_s + ANSWER_TIMEOUT_S
        return seen

    def ask(self, events: Sequence[Event]) -> Mapping[str, float]:
        """Send all at once; return when each answer could be read."""
        for event in events:
            self.send(event)
        return self.await_answers([query_id for query_id, _ in events])

    def close(self) -> None:
        """Close the connections."""
        self._producer.flush(1)
        self._consumer.close()


@dataclass(frozen=True)
class Service:
    """A running worker, and an application connected to the same topics."""

    worker: WorkerProcess
    application: Application
    start: Timing

    def memory_mib(self, field: str) -> float:
        """Return a field of the worker's memory (`VmRSS`, `VmHWM`) in MiB."""
        for line in Path(f"/proc/{self.worker.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / KIB
        raise BenchError(f"the system does not tell {field}")

    def cpu_s(self) -> float:
        """Return the CPU time that the worker has used since it began."""
        return cpu_s(self.worker)


def cpu_s(worker: WorkerProcess) -> float:
    """Return the CPU time that a worker has used since it began."""
    fields = Path(f"/proc/{worker.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running_worker(
    cluster: KafkaCluster, directory: Path, model: Path, lanes: int
) -> Iterator[Service]:
    """Start a worker on topics of its own, and stop it; raises ServiceFailed."""
    with running_workers(cluster, directory, model, lanes, 1) as (service,):
        yield service


@contextmanager
def running_workers(
    cluster: KafkaCluster, directory: Path, model: Path, lanes: int, count: int, **more: str
) -> Iterator[list[Service]]:
    """Start workers on topics of their own, with a partition for each, and stop them.

    All share one application; `more` are further settings. Raises ServiceFailed.
    """
    topics = create_topics(cluster, queries=count, results=count)
    settings = settings_for(
        cluster.bootstrap_servers,
        topics,
        model.resolve(),
        BATCH__LANES=str(lanes),
        LOG__LEVEL="warning",
    )
    settings |= {f"RERANKER_{name}": value for name, value in more.items()}
    names = [f"worker-{topics.group_id}-{number}" for number in range(count)]
    workers = [WorkerProcess(directory, name, settings) for name in names]
    application = Application(cluster.bootstrap_servers, topics, count)
    services: list[Service] = []
    try:
        for worker in workers:
            began_s = time.monotonic()
            worker.start()
            ready_s = time.monotonic() - began_s
            services.append(Service(worker, application, Timing(ready_s, cpu_s(worker))))
        yield services
    finally:
        application.close()
        for worker in workers:
            worker.process.terminate()
