"""Whatever goes wrong: each event once, in order, and no commit past a gap (property test)."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.encoder import POISON, POISON_ID
from tests.fakes.events import event_json
from tests.fakes.graph import FakeGraph
from tests.fakes.memory_cluster import MemoryCluster
from tests.fakes.retriever import FakeRetriever
from tests.fakes.worker import (
    GROUP,
    TOPICS,
    FakeWorker,
    Options,
    new_cluster,
    new_worker,
)
from worker.errors import CommitAbortedError, TransientError
from worker.records import Partition, Record
from worker.settings import BatchSettings

PARTITIONS = 3
MAX_STEPS = 3_000
TEXTS = {"t1": "read the file", "t2": "a broker keeps records", "t3": "line by line"}

# Kinds of events. The last two can't be answered; a poisoned one can in retrieval order only, when
# nothing else in its batch needs the scorer.
KINDS = ("inline", "retrieved", "empty", "same", "poison", "not json", "blank")
BAD = {"not json", "blank"}
FAULTS = (
    "none",
    "scorer stalls",
    "scorer goes on",
    "abort",
    "rebalance",
    "poll fails",
    "rewind fails",
    "index away",
    "joins",
    "leaves",
    "stops",
)


@dataclass(frozen=True)
class Case:
    """What comes, in which partition, and what goes wrong at each step."""

    kinds: Sequence[tuple[str, int]]
    faults: Sequence[str]
    batch: BatchSettings


cases = st.builds(
    Case,
    kinds=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, PARTITIONS - 1)), max_size=30),
    faults=st.lists(st.sampled_from(FAULTS), min_size=5, max_size=60),
    batch=st.builds(
        BatchSettings,
        max_events=st.integers(1, 6),
        max_pairs=st.integers(1, 8),
        prefetch=st.integers(0, 2),
    ),
)


def value_of(kind: str, number: int) -> bytes:
    query_id = f"q{number}"
    if kind == "not json":
        return b"{"
    if kind == "blank":
        return event_json(query_id, query=" \t ")
    if kind == "retrieved":
        return event_json(query_id, query=f"read {number % 3}", top_k=2)
    texts = {
        "inline": [f"text {number}", "read the file"],
        "same": ["read the file", "line by line"],
        "empty": [],
        "poison": [f"{POISON} {number}", "read the file"],
    }[kind]
    return event_json(query_id, texts=texts)


class Group:
    """Workers that come and go while faults happen."""

    def __init__(self, cluster: MemoryCluster, batch: BatchSettings) -> None:
        self.cluster = cluster
        self._batch = batch
        self.workers: list[FakeWorker] = []
        self.join()

    def join(self) -> None:
        options = Options(
            graph=FakeGraph(fails_on={POISON_ID}),
            retriever=FakeRetriever(TEXTS),
            batch=self._batch,
            lanes=1,
        )
        self.workers.append(new_worker(self.cluster, options))

    def leave(self) -> None:
        if len(self.workers) > 1:
            self.workers.pop(0).close()

    def crash(self) -> None:
        """End a worker without draining, as SIGKILL would; another takes its place."""
        worker = self.workers.pop(0)
        self.join()
        worker.broker.close()
        worker.graph.gate.set()
        worker.lanes.close()
        worker.loop._beginner.shutdown()

    def join_if_room(self) -> None:
        if len(self.workers) < PARTITIONS:
            self.join()

    def fail(self, fault: str) -> None:
        worker = self.workers[0]
        broker, retriever = worker.broker, worker.options.retriever
        assert retriever is not None
        actions: dict[str, Callable[[], None]] = {
            "scorer stalls": worker.graph.gate.clear,
            "scorer goes on": worker.graph.gate.set,
            "abort": lambda: broker.commit_errors.append(CommitAbortedError("on demand")),
            "rebalance": broker.force_rebalance,
            "poll fails": lambda: broker.poll_errors.append(TransientError("on demand")),
            "rewind fails": lambda: broker.rewind_errors.append(TransientError("on demand")),
            "index away": lambda: retriever.errors.append(TransientError("on demand")),
            "joins": self.join_if_room,
            "leaves": self.leave,
            "stops": self.crash,
        }
        if fault in actions:
            actions[fault]()

    def step(self) -> None:
        for worker in self.workers:
            worker.loop.step()

    def go_on(self) -> None:
        for worker in self.workers:
            worker.graph.gate.set()

    def close(self) -> None:
        for worker in self.workers:
            worker.close()


def places_of(records: Sequence[Record]) -> list[tuple[int, int]]:
    """Input partition and offset of each output record, from its headers."""
    places = []
    for record in records:
        event_id = record.header("ce_id")
        if event_id is not None:
            partition, offset = event_id.decode().split("/")[1:3]
        else:
            number, at = record.header("dlq.partition"), record.header("dlq.offset")
            assert number is not None
            assert at is not None
            partition, offset = number.decode(), at.decode()
        places.append((int(partition), int(offset)))
    return places


def assert_no_gap(cluster: MemoryCluster) -> None:
    """What is committed is answered, and what is answered is committed."""
    answered = Counter(
        places_of([*cluster.read(TOPICS.results), *cluster.read(TOPICS.dead_letters)])
    )
    committed = cluster.group(GROUP).committed
    for number in range(PARTITIONS):
        upto = committed.get(Partition(TOPICS.queries, number), 0)
        here = {offset: count for (at, offset), count in answered.items() if at == number}
        assert here == dict.fromkeys(range(upto), 1)


def assert_in_order(records: Sequence[Record]) -> None:
    last: dict[int, int] = defaultdict(lambda: -1)
    for partition, offset in places_of(records):
        assert offset > last[partition]
        last[partition] = offset


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(cases)
def test_each_event_is_answered_once_and_in_order(case: Case) -> None:
    cluster = new_cluster(queries=PARTITIONS)
    kinds: dict[tuple[int, int], str] = {}
    for number, (kind, partition) in enumerate(case.kinds):
        record = cluster.produce(
            TOPICS.queries, value_of(kind, number), key=f"q{number}".encode(), partition=partition
        )
        kinds[partition, record.offset] = kind
    group = Group(cluster, case.batch)
    for fault in case.faults:
        group.fail(fault)
        group.step()
        assert_no_gap(cluster)
    ends = {
        place: cluster.end(place)
        for place in cluster.partitions_of(TOPICS.queries)
        if cluster.end(place)
    }
    group.go_on()
    for _ in range(MAX_STEPS):
        if cluster.group(GROUP).committed == ends:
            break
        group.step()
        assert_no_gap(cluster)
    assert cluster.group(GROUP).committed == ends, "the loop did not come to an end"
    group.close()

    results, dead = cluster.read(TOPICS.results), cluster.read(TOPICS.dead_letters)
    answered, refused = places_of(results), places_of(dead)
    assert sorted(answered + refused) == sorted(kinds)
    assert {place for place in refused if kinds[place] != "poison"} == {
        place for place, kind in kinds.items() if kind in BAD
    }
    assert places_of(cluster.read(TOPICS.feedback)) == answered
    assert_in_order(results)
    assert_in_order(dead)
