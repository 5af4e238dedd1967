"""Workers from fakes that end with their test."""

from collections.abc import Callable, Iterator

import pytest

from tests.fakes.memory_cluster import MemoryCluster
from tests.fakes.worker import FakeWorker, Options, new_cluster, new_worker


@pytest.fixture
def cluster() -> MemoryCluster:
    """Topics of one partition each."""
    return new_cluster()


@pytest.fixture
def start(cluster: MemoryCluster) -> Iterator[Callable[..., FakeWorker]]:
    """Builds a worker on `cluster`: `start(graph=…, batch=…)`, see `Options`."""
    workers: list[FakeWorker] = []

    def build(**options: object) -> FakeWorker:
        worker = new_worker(cluster, Options(**options))  # type: ignore[arg-type]
        workers.append(worker)
        return worker

    yield build
    for worker in workers:
        if not worker.broker.closed:
            worker.close()
