"""Autoscaling, played through with real parts: `python -m bench.autoscale --help`.

A real broker gets query events in bursts. Every few seconds the group's real lag goes through the
scaler's formula (`bench.scaler`, with the windows and steps of the manifest), and workers are
started and stopped as processes, the newest first and by SIGTERM, as a Deployment does it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bench.lag import LagReader
from bench.load import Load, Phase, arrivals, event
from bench.scaler import Rules, Scaler
from tests.services.kafka import KafkaCluster
from tests.services.process import ServiceFailed
from tests.services.topics import Topics
from tests.services.worker import WorkerProcess, settings_for

SETTLE_TIMEOUT_S = 300.0
STEP_S = 0.1


@dataclass(frozen=True)
class Plan:
    """What is played. Each event has `candidates` texts of `words` words."""

    trace: Sequence[Phase]
    rules: Rules
    partitions: int
    candidates: int
    words: int
    model_bundle: Path
    seed: int = 7


@dataclass(frozen=True)
class Sample:
    """What was seen at one decision. `asked` and `lag` are numbers of query events."""

    at_s: float
    asked: int
    lag: int
    workers: int
    ready: int
    chosen: int


@dataclass(frozen=True)
class Outcome:
    """What came of a plan. `worker_s` is the sum over workers of the time that they existed."""

    plan: Plan
    samples: Sequence[Sample]
    query_ids: Sequence[str]
    worker_s: float
    topics: Topics


@dataclass
class Fleet:
    """The workers, oldest first."""

    directory: Path
    settings: Mapping[str, str]
    clock: Callable[[], float] = time.monotonic
    running: list[WorkerProcess] = field(default_factory=list)
    worker_s: float = 0.0
    _started_s: dict[str, float] = field(default_factory=dict)
    _count: int = 0
    _stopper: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))
    _stopping: list[Future[None]] = field(default_factory=list)

    def scale(self, wanted: int) -> None:
        """Start or stop workers until so many exist; returns without waiting for either."""
        while len(self.running) < wanted:
            self._start()
        while len(self.running) > wanted:
            worker = self.running.pop()
            self._stopping.append(self._stopper.submit(self._stop, worker))

    def ready(self) -> int:
        """Return how many take work; raises ServiceFailed when one has ended by itself."""
        for worker in self.running:
            if not worker.process.alive:
                raise ServiceFailed(worker.process.describe("ended by itself"))
        return sum(worker.get("/readyz") == 200 for worker in self.running)

    def close(self) -> None:
        """Stop all, and wait for them."""
        self.scale(0)
        for stopped in self._stopping:
            stopped.result()
        self._stopper.shutdown()

    def _start(self) -> None:
        worker = WorkerProcess(self.directory, f"worker-{self._count}", self.settings)
        self._count += 1
        self._started_s[worker.process.name] = self.clock()
        worker.process.start()
        self.running.append(worker)

    def _stop(self, worker: WorkerProcess) -> None:
        worker.process.terminate()
        self.worker_s += self.clock() - self._started_s[worker.process.name]


def play(
    plan: Plan,
    cluster: KafkaCluster,
    topics: Topics,
    directory: Path,
    tell: Callable[[Sample], None] = lambda _: None,
) -> Outcome:
    """Play a plan until all is answered and the number of workers is the least again.

    Raises ServiceFailed when a worker dies, or when that takes longer than five minutes after the
    trace and the scaler's own times.
    """
    times_s = list(arrivals(plan.trace, plan.seed))
    events = [
        event(number, plan.candidates, plan.words, plan.seed) for number in range(len(times_s))
    ]
    reader = LagReader.open(
        cluster.bootstrap_servers, topics.group_id, topics.queries, plan.partitions
    )
    load = Load(cluster.bootstrap_servers, topics.queries, times_s)
    fleet = Fleet(directory, _settings(plan, cluster, topics))
    try:
        fleet.scale(plan.rules.least)
        _await_ready(fleet, plan.rules.least)
        load.start(events)
        samples = _steer(plan, reader, load, fleet, tell)
    finally:
        load.stop()
        fleet.close()
        reader.close()
    return Outcome(plan, samples, [query_id for query_id, _ in events], fleet.worker_s, topics)


def _steer(
    plan: Plan, reader: LagReader, load: Load, fleet: Fleet, tell: Callable[[Sample], None]
) -> list[Sample]:
    """Decide every `sync_s` until nothing is left to do."""
    scaler, samples = Scaler(plan.rules), []
    began_s = time.monotonic()
    deadline_s = began_s + sum(phase.seconds for phase in plan.trace) + _settle_s(plan.rules)
    while True:
        now_s = time.monotonic()
        lag, present = reader.read(), len(fleet.running)
        if lag is not None:  # While it can't be read, the number stays.
            chosen = scaler.decide(lag, present, now_s)
            at_s, asked = now_s - began_s, load.sent
            sample = Sample(at_s, asked, sum(lag.values()), present, fleet.ready(), chosen)
            samples.append(sample)
            tell(sample)
            if load.done and sample.lag == 0 and chosen == present == plan.rules.least:
                return samples
            fleet.scale(chosen)
        if now_s > deadline_s:
            raise ServiceFailed(f"the workers did not settle: {samples[-1:]}")
        while time.monotonic() < now_s + plan.rules.sync_s:
            time.sleep(STEP_S)


def _settle_s(rules: Rules) -> float:
    periods = max(policy.period_s for policy in rules.down.policies)
    return SETTLE_TIMEOUT_S + rules.down.window_s + rules.most * periods


def _await_ready(fleet: Fleet, count: int) -> None:
    deadline_s = time.monotonic() + SETTLE_TIMEOUT_S
    while fleet.ready() < count:
        if time.monotonic() > deadline_s:
            raise ServiceFailed("the first workers did not get ready")
        time.sleep(STEP_S)


def _settings(plan: Plan, cluster: KafkaCluster, topics: Topics) -> dict[str, str]:
    return settings_for(
        cluster.bootstrap_servers,
        topics,
        plan.model_bundle,
        BATCH__LANES="1",
        FEEDBACK__TEXT="never",
        # Bounds the work of one transaction, so that the committed lag moves in small steps.
        BATCH__MAX_EVENTS="8",
    )
