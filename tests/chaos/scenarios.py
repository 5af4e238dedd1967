"""What is done to the workers and the broker while events are answered, and what came of it.

Faults come when so much is answered, so that each of them hits a worker at work, however fast the
machine is. Which worker, and when exactly, a seeded chance decides.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.fleet import Fleet
from tests.chaos.load import make_events, tiny_model
from tests.chaos.progress import Progress
from tests.chaos.settings import UNHURRIED, quick_settings
from tests.chaos.verdict import Verdict, aborted_records, assert_kept, await_settled, judge
from tests.checker import committed_offsets, end_offsets, produce
from tests.services.kafka import KafkaCluster
from tests.services.process import await_condition
from tests.services.topics import Topics, create_topics

PARTITIONS = 6
# A fault comes up to so long after its turn, or all would come right after a commit.
JITTER_S = 0.15
SETTLE_TIMEOUT_S = 180.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How much, and what goes wrong: `scale` maps a share of all events to a number of workers."""

    name: str
    events: int
    kills: int
    seed: int
    workers: int = 3
    broker_restarts: int = 0
    nodes: int = 1
    scale: Mapping[float, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What came of a plan. `aborted` counts result records of transactions that were given up."""

    plan: Plan
    verdict: Verdict
    kills: int
    broker_restarts: int
    starts: int
    exits: Mapping[str, int]
    aborted: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return asdict(self)

    @property
    def summary(self) -> str:
        """Everything in one line."""
        verdict, plan = self.verdict, self.plan
        return (
            f"{plan.name} (seed {plan.seed}): {verdict.asked} events, {self.kills} kills, "
            f"{self.broker_restarts} broker restarts, {self.starts} worker starts, exits "
            f"{dict(self.exits)}, {self.aborted} aborted result records; lost {verdict.lost}, "
            f"duplicated {verdict.duplicated}, torn {verdict.torn}, out of order "
            f"{verdict.misordered}, uncommitted {verdict.behind}; {self.seconds} s"
        )


@dataclass(frozen=True)
class Fault:
    """Something to be done when so many events are answered."""

    at: int
    kind: str
    argument: int = 0


def faults_of(plan: Plan) -> list[Fault]:
    """Return all faults in their order. A fault lies anywhere in its slice of the events."""
    chance = Random(plan.seed)
    faults = [Fault(at, "kill") for at in _spread(plan.events, plan.kills, chance)]
    faults += [Fault(at, "broker") for at in _spread(plan.events, plan.broker_restarts, chance)]
    faults += [Fault(int(at * plan.events), "scale", count) for at, count in plan.scale.items()]
    return sorted(faults, key=lambda fault: fault.at)


def _spread(events: int, count: int, chance: Random) -> list[int]:
    # The last twentieth stays free: a fault has to come while there is still work.
    slice_size = 0.95 * events / count if count else 0.0
    return [int((number + chance.random()) * slice_size) for number in range(count)]


def run(plan: Plan, cluster: KafkaCluster, directory: Path, tell: Tell) -> Outcome:
    """Play a plan on a cluster that runs, and fail unless every event had its answer once."""
    topics = create_topics(cluster, PARTITIONS, PARTITIONS, PARTITIONS, PARTITIONS)
    bootstrap = cluster.bootstrap_servers
    events = make_events(plan.events, plan.seed)
    # Three nodes on a small machine answer late, and every late answer ends a worker.
    more = UNHURRIED if plan.nodes > 1 else {}
    settings = quick_settings(bootstrap, topics, tiny_model(directory / plan.name), **more)
    produce(bootstrap, topics.queries, [event.outgoing() for event in events])
    began_s = time.monotonic()
    with Progress(bootstrap, topics) as progress, Fleet(directory, settings, plan.workers) as fleet:
        player = Player(plan, cluster, fleet, progress, tell)
        player.play()
        progress.await_count(plan.events, fleet.describe)
        _await_committed(bootstrap, topics)
        await_settled(bootstrap, topics)
    assert not fleet.unknown_exits(), f"exits {fleet.unknown_exits()}, see {directory}"
    outcome = Outcome(
        plan=plan,
        verdict=judge(bootstrap, topics, events),
        kills=player.kills,
        broker_restarts=player.broker_restarts,
        starts=fleet.starts,
        exits={str(code): count for code, count in sorted(fleet.exits.items())},
        aborted=aborted_records(bootstrap, topics.results),
        seconds=round(time.monotonic() - began_s, 1),
    )
    tell(outcome.summary)
    assert_kept(bootstrap, topics, events)  # Names the query ids, where one is lost or repeated.
    return outcome


class Player:
    """Does what a plan says."""

    def __init__(
        self, plan: Plan, cluster: KafkaCluster, fleet: Fleet, progress: Progress, tell: Tell
    ) -> None:
        self._plan = plan
        self._cluster = cluster
        self._fleet = fleet
        self._progress = progress
        self._tell = tell
        self._chance = Random(plan.seed + 1)
        self.kills = 0
        self.broker_restarts = 0

    def play(self) -> None:
        """Do each fault at its time."""
        for fault in faults_of(self._plan):
            self._progress.await_count(fault.at, self._fleet.describe)
            time.sleep(self._chance.uniform(0, JITTER_S))
            self._do(fault)

    def _do(self, fault: Fault) -> None:
        answered = self._progress.count
        if fault.kind == "kill":
            await_condition(
                lambda: self._fleet.kill_one(self._chance), 180, lambda: "no worker to kill"
            )
            self.kills += 1
            what = f"kill {self.kills}/{self._plan.kills}"
        elif fault.kind == "broker":
            what = f"broker {self._restart_broker()} restarted"
        else:
            self._fleet.scale(fault.argument)
            what = f"{fault.argument} workers"
        self._tell(f"{answered}/{self._plan.events} answered: {what}")

    def _restart_broker(self) -> int:
        """SIGKILL a node and start it again; one of several goes when it leads most."""
        node = self._chance.randint(1, self._plan.nodes)
        self._cluster.kill(node)
        self._cluster.restart(node)
        self.broker_restarts += 1
        return node


def _await_committed(bootstrap: str, topics: Topics) -> None:
    await_condition(
        lambda: (
            committed_offsets(bootstrap, topics.group_id, topics.queries)
            == {
                partition: end
                for partition, end in end_offsets(bootstrap, topics.queries).items()
                if end
            }
        ),
        SETTLE_TIMEOUT_S,
        lambda: "offsets were not committed to the end",
    )


def run_alone(plan: Plan, logs: Path, tell: Tell) -> Outcome:
    """Play a plan on a cluster of its own; the workers' logs stay in a folder of its name."""
    folder = logs / plan.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with KafkaCluster(plan.nodes) as cluster:
        return run(plan, cluster, folder.resolve(), tell)
