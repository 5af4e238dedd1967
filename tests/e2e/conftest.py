"""Bundles and workers for tests on real services."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.e2e.chaos_bench import benches, tiny_bundle  # noqa: F401 - fixtures
from tests.services.kafka import KafkaCluster
from tests.services.topics import Topics
from tests.services.worker import PATIENT_REDIS, REPOSITORY, WorkerProcess, settings_for

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


def built_once(factory: pytest.TempPathFactory, name: str, *arguments: str) -> Path:
    """An export that all processes of a test run share: the first makes it, the others wait.

    An export appears whole or not at all, so that a folder that is there can be used.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    path = root / "shared-bundles" / name
    path.parent.mkdir(exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            export(*arguments, "--out", str(path))
    return path


@pytest.fixture(scope="session")
def model_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default reranker as int8."""
    return built_once(tmp_path_factory, "model", "model", "--precision", "int8")


@pytest.fixture(scope="session")
def trecqa_index(tmp_path_factory: pytest.TempPathFactory, data_dir: Callable[[str], Path]) -> Path:
    """An index of the sentences of TREC QA's test split."""
    corpus = data_dir("trecqa/test") / "corpus.jsonl.gz"
    return built_once(tmp_path_factory, "trecqa", "index", "--corpus", str(corpus))


@pytest.fixture
def start_worker(kafka: KafkaCluster, model_bundle: Path, tmp_path: Path) -> Iterator[StartWorker]:
    """Start workers on the shared cluster; they are ended with the test."""
    started: list[WorkerProcess] = []

    def start(topics: Topics, **options: str) -> WorkerProcess:
        bootstrap = options.pop("bootstrap_servers", kafka.bootstrap_servers)
        index = options.pop("index_bundle", None)
        settings = settings_for(
            bootstrap,
            topics,
            model_bundle,
            Path(index) if index else None,
            **{**PATIENT_REDIS, **options},
        )
        worker = WorkerProcess(tmp_path, f"worker-{len(started)}", settings)
        started.append(worker)
        return worker.start()

    yield start
    for worker in started:
        worker.process.terminate()
