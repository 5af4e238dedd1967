"""A test's place to hurt workers: topics, events, a tiny model, and workers by name."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.chaos.faults import Fault, Signals, variables
from tests.chaos.load import Event, tiny_model
from tests.chaos.settings import quick_settings
from tests.chaos.verdict import (
    Verdict,
    aborted_records,
    assert_kept,
    await_settled,
    open_records,
)
from tests.checker import committed_offsets, end_offsets, produce
from tests.services.process import await_condition
from tests.services.topics import Topics
from tests.services.worker import WorkerProcess

ANSWER_TIMEOUT_S = 300.0


@dataclass
class Bench:
    """One set of topics on one cluster, and the workers on it."""

    bootstrap: str
    topics: Topics
    folder: Path
    model_bundle: Path
    events: list[Event] = field(default_factory=list)
    workers: list[WorkerProcess] = field(default_factory=list)

    def ask(self, events: list[Event]) -> None:
        """Produce events."""
        self.events += events
        produce(self.bootstrap, self.topics.queries, [event.outgoing() for event in events])

    def worker(self, bootstrap: str | None = None, **more: str) -> WorkerProcess:
        """Start a worker, without waiting for it. `more` are settings without the prefix."""
        return self._start(self._settings(bootstrap, more), "worker")

    def faulty(
        self,
        fault: Fault | None,
        bootstrap: str | None = None,
        *,
        score_ms: int = 0,
        unsafe: bool = False,
        **more: str,
    ) -> tuple[WorkerProcess, Signals]:
        """Start a worker with a fault, without waiting for it."""
        folder = self.folder / f"faulty-{len(self.workers)}"
        extra = variables(folder, fault, score_ms=score_ms, unsafe=unsafe)
        worker = self._start(self._settings(bootstrap, more) | extra, "tests.chaos.faulty_worker")
        return worker, Signals(folder)

    def await_committed(self, count: int | None = None) -> None:
        """Return once so many query events are committed; all of them if unsaid."""
        bootstrap, topics = self.bootstrap, self.topics

        def done() -> bool:
            self.start_again()
            committed = committed_offsets(bootstrap, topics.group_id, topics.queries)
            wanted = sum(end_offsets(bootstrap, topics.queries).values())
            return sum(committed.values()) >= (wanted if count is None else count)

        await_condition(done, ANSWER_TIMEOUT_S, self.describe)

    def start_again(self) -> None:
        """Start workers without a fault again that ended by themselves, as an orchestrator does."""
        for worker in self.workers:
            if worker.process.command[-1] == "worker" and worker.process.exit_code in (70, 78):
                worker.process.start()

    def check(self) -> Verdict:
        """Wait until all is committed and readable; fail unless each event has its answer, once."""
        self.await_committed()
        await_settled(self.bootstrap, self.topics)
        return assert_kept(self.bootstrap, self.topics, self.events)

    def describe(self) -> str:
        """Return the ends of all logs."""
        return "\n".join(worker.process.describe("as it is") for worker in self.workers)

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.process.kill()

    def _settings(self, bootstrap: str | None, more: dict[str, str]) -> dict[str, str]:
        return quick_settings(bootstrap or self.bootstrap, self.topics, self.model_bundle, **more)

    def _start(self, settings: dict[str, str], module: str) -> WorkerProcess:
        worker = WorkerProcess(self.folder, f"worker-{len(self.workers)}", settings)
        worker.process.command[-1] = module
        self.workers.append(worker)
        worker.process.start()
        return worker


def await_ready(*workers: WorkerProcess) -> None:
    """Return once all take work."""
    for worker in workers:
        await_condition(
            lambda worker=worker: worker.get("/readyz") == 200,  # type: ignore[misc]
            ANSWER_TIMEOUT_S,
            lambda worker=worker: worker.process.describe("is not ready"),  # type: ignore[misc]
        )


def await_reached(worker: WorkerProcess, signals: Signals) -> None:
    """Return once a worker has come to its fault."""
    await_condition(
        lambda: signals.reached,
        ANSWER_TIMEOUT_S,
        lambda: worker.process.describe(f"is not there; steps {signals.steps()[-5:]}"),
    )


def await_end(worker: WorkerProcess, timeout_s: float = ANSWER_TIMEOUT_S) -> int:
    """Return the exit code of a worker that ends by itself."""
    await_condition(
        lambda: not worker.process.alive,
        timeout_s,
        lambda: worker.process.describe("has not ended"),
    )
    code = worker.process.exit_code
    assert code is not None
    return code


def await_given_up(bench: Bench) -> None:
    """Return once the broker has aborted a transaction that wrote to the results topic."""
    bootstrap, results = bench.bootstrap, bench.topics.results
    await_condition(
        lambda: open_records(bootstrap, results) == 0 and aborted_records(bootstrap, results) > 0,
        ANSWER_TIMEOUT_S,
        lambda: f"{open_records(bootstrap, results)} records lie behind an open transaction",
    )


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that counts words."""
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def benches(tmp_path: Path, tiny_bundle: Path) -> Iterator["MakeBench"]:
    """Makes benches; their workers are ended with the test."""
    made = MakeBench(tmp_path, tiny_bundle)
    yield made
    for bench in made.benches:
        bench.close()


@dataclass
class MakeBench:
    """Makes a bench on topics: `benches(cluster.bootstrap_servers, topics())`."""

    folder: Path
    model_bundle: Path
    benches: list[Bench] = field(default_factory=list)

    def __call__(self, bootstrap: str, topics: Topics) -> Bench:
        folder = self.folder / f"bench-{len(self.benches)}"
        folder.mkdir()
        bench = Bench(bootstrap, topics, folder, self.model_bundle)
        self.benches.append(bench)
        return bench
