"""A complete worker from fakes, stepped by the test or run on a thread."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from engine.lanes import Lanes
from schemas.events import ModelRef
from tests.fakes.clock import FakeClock
from tests.fakes.encoder import tiny_encoder
from tests.fakes.graph import FakeGraph
from tests.fakes.memory_broker import MemoryBroker
from tests.fakes.memory_cluster import MemoryCluster
from tests.fakes.retriever import FakeRetriever
from tests.fakes.store import FakeStore
from worker.admission import Admission
from worker.caches import PairCache, RankingCache
from worker.http import Health
from worker.intake import Intake
from worker.loop import Loop, Parts
from worker.metrics import Metrics
from worker.publish import Publisher
from worker.reranker import Reranker
from worker.scoring import PairScorer
from worker.settings import (
    BatchSettings,
    FeedbackSettings,
    LimitSettings,
    OverloadSettings,
    TopicSettings,
)
from worker.store import Store

MODEL = ModelRef(name="fake model", digest="sha256:" + "f0" * 32, precision="fp32")
TOPICS = TopicSettings()
GROUP = "workers"
STALE_AFTER_S = 60.0
MAX_STEPS = 50_000


def new_cluster(queries: int = 1, outputs: int = 1) -> MemoryCluster:
    """The four topics on a clock of their own."""
    return MemoryCluster(
        {
            TOPICS.queries: queries,
            TOPICS.results: outputs,
            TOPICS.feedback: outputs,
            TOPICS.dead_letters: outputs,
        },
        FakeClock(),
    )


@dataclass
class Options:
    """What a test may want another way."""

    graph: FakeGraph = field(default_factory=FakeGraph)
    store: Store = field(default_factory=FakeStore)
    retriever: FakeRetriever | None = None
    batch: BatchSettings = field(default_factory=lambda: BatchSettings(max_events=4, max_pairs=64))
    limits: LimitSettings = field(default_factory=LimitSettings)
    overload: OverloadSettings = field(default_factory=OverloadSettings)
    feedback: FeedbackSettings = field(default_factory=FeedbackSettings)
    lanes: int = 2
    drain_timeout_s: float = 20.0
    max_tokens: int = 128
    max_query_tokens: int = 48


@dataclass
class FakeWorker:
    """A worker and the fakes in it."""

    cluster: MemoryCluster
    broker: MemoryBroker
    options: Options
    lanes: Lanes
    parts: Parts
    loop: Loop

    @property
    def graph(self) -> FakeGraph:
        """The graph that scores."""
        return self.options.graph

    def step_until(self, condition: Callable[[], bool]) -> None:
        """Step until the condition holds; fails where it does not within many steps."""
        step_until([self], condition)

    def close(self) -> None:
        """Drain, leave the group, and end all threads."""
        self.graph.gate.set()
        self.loop.stop()
        try:
            self.loop.run()
        finally:
            self.loop.close()
            self.lanes.close()


def new_reranker(clock: FakeClock, lanes: Lanes, options: Options) -> Reranker:
    """The engine room alone."""
    encoder = tiny_encoder(options.max_tokens, options.max_query_tokens)
    retriever = options.retriever
    return Reranker(
        scorer=PairScorer(encoder, lanes, PairCache(options.store, MODEL.digest)),
        retriever=retriever,
        rankings=None
        if retriever is None
        else RankingCache(options.store, MODEL.digest, retriever.ref.digest),
        model=MODEL,
        clock=clock,
        always_text=options.feedback.text == "always",
    )


def new_worker(cluster: MemoryCluster, options: Options | None = None) -> FakeWorker:
    """Build a worker that is a new member of the group."""
    options = options or Options()
    clock = cluster.clock
    broker = MemoryBroker(cluster, GROUP, TOPICS.queries)
    lanes = Lanes(options.graph, options.lanes)
    index = None if options.retriever is None else options.retriever.ref
    parts = Parts(
        broker=broker,
        reranker=new_reranker(clock, lanes, options),
        admission=Admission(options.overload, lanes),
        publisher=Publisher(TOPICS, "worker-under-test", options.feedback.text, clock, {}),
        intake=Intake(options.batch, options.limits),
        metrics=Metrics(MODEL, index),
        health=Health(clock, STALE_AFTER_S),
        clock=clock,
    )
    loop = Loop(parts, options.batch, options.drain_timeout_s)
    return FakeWorker(cluster, broker, options, lanes, parts, loop)


def step_until(workers: Iterable[FakeWorker], condition: Callable[[], bool]) -> None:
    """Step workers in turn until the condition holds."""
    running = list(workers)
    for _ in range(MAX_STEPS):
        if condition():
            return
        for worker in running:
            worker.loop.step()
    raise AssertionError(f"the condition did not hold within {MAX_STEPS} steps")


def counter(worker: FakeWorker, name: str, **labels: Any) -> float:
    """A metric's value by its name on the scrape page; 0 where it has none yet."""
    value = worker.parts.metrics.registry.get_sample_value(f"kafka_reranker_{name}", labels)
    return 0.0 if value is None else value
