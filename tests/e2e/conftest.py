"""Bundles and workers for tests on real services."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.chaos_bench import benches, tiny_bundle  # noqa: F401 - fixtures
from tests.services.kafka import KafkaCluster
from tests.services.topics import Topics
from tests.services.worker import REPOSITORY, WorkerProcess, settings_for

StartWorker = Callable[..., WorkerProcess]


def export(*arguments: str) -> None:
    """Run `python -m export`, as a user does."""
    subprocess.run(
        [sys.executable, "-m", "export", *arguments],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        timeout=600,
    )


@pytest.fixture(scope="session")
def model_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default reranker as int8."""
    path = tmp_path_factory.mktemp("bundles") / "model"
    export("model", "--precision", "int8", "--out", str(path))
    return path


@pytest.fixture(scope="session")
def trecqa_index(tmp_path_factory: pytest.TempPathFactory, data_dir: Callable[[str], Path]) -> Path:
    """An index of the sentences of TREC QA's test split."""
    corpus = data_dir("trecqa/test") / "corpus.jsonl.gz"
    path = tmp_path_factory.mktemp("bundles") / "index"
    export("index", "--corpus", str(corpus), "--out", str(path))
    return path


@pytest.fixture
def start_worker(kafka: KafkaCluster, model_bundle: Path, tmp_path: Path) -> Iterator[StartWorker]:
    """Start workers on the shared cluster; they are ended with the test."""
    started: list[WorkerProcess] = []

    def start(topics: Topics, **options: str) -> WorkerProcess:
        bootstrap = options.pop("bootstrap_servers", kafka.bootstrap_servers)
        index = options.pop("index_bundle", None)
        settings = settings_for(
            bootstrap, topics, model_bundle, Path(index) if index else None, **options
        )
        worker = WorkerProcess(tmp_path, f"worker-{len(started)}", settings)
        started.append(worker)
        return worker.start()

    yield start
    for worker in started:
        worker.process.terminate()
