"""Questions to a worker from fakes, and what became of them."""

from tests.fakes.events import event_json
from tests.fakes.memory_cluster import MemoryCluster
from tests.fakes.worker import GROUP, TOPICS, FakeWorker
from worker.records import Partition

QUERIES = Partition(TOPICS.queries, 0)


def ask(cluster: MemoryCluster, count: int, first: int = 0) -> None:
    """Put questions on the topic, each with two candidates."""
    for number in range(first, first + count):
        value = event_json(f"q{number}", texts=[f"text {number}", "same"])
        cluster.produce(TOPICS.queries, value, key=f"q{number}".encode())


def answered(cluster: MemoryCluster) -> list[str]:
    """Return the ids of what was answered, in the order of the answers."""
    return [(record.key or b"").decode() for record in cluster.read(TOPICS.results)]


def expected(count: int) -> list[str]:
    """Return the ids of so many questions."""
    return [f"q{number}" for number in range(count)]


def committed(cluster: MemoryCluster) -> int:
    """Return how far the first partition is committed."""
    return cluster.group(GROUP).committed.get(QUERIES, 0)


def run_until_drained(worker: FakeWorker) -> None:
    """Let a worker end what it has begun, with a scorer that goes on."""
    worker.loop.stop()
    worker.graph.gate.set()
    worker.loop.run()
