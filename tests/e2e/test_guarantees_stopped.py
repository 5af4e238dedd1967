"""A worker that stands still in the midst of a commit, for longer than its session, and goes on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from tests.chaos.faults import Fault
from tests.chaos.load import make_events
from tests.chaos.settings import PATIENT
from tests.e2e.chaos_bench import MakeBench, await_end, await_given_up, await_reached
from tests.services.kafka import KafkaCluster
from tests.services.topics import Topics

EVENTS = 60


@dataclass(frozen=True)
class Stop:
    """Where a worker stands still, and whether the broker gives up its transaction meanwhile."""

    fault: Fault
    given_up: bool
    settings: Mapping[str, str] = field(default_factory=dict)


STOPS = {
    # Its generation is over: what it sends is refused, and it joins again.
    "before begin": Stop(Fault("wait", "before", "begin", 3), False, PATIENT),
    "before offsets": Stop(Fault("wait", "before", "offsets", 3), False, PATIENT),
    # Its transaction is over too: the client can't be used any more.
    "before offsets, given up": Stop(Fault("wait", "before", "offsets", 3), True),
    "before commit": Stop(Fault("wait", "before", "commit", 3), True),
}


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["before offsets", "before commit"], id="short"),
        pytest.param(
            ["before begin", "before offsets, given up"], marks=pytest.mark.long, id="others"
        ),
    ],
)
def test_who_was_stopped_past_its_session_repeats_nothing(
    kafka: KafkaCluster, topics: Callable[..., Topics], benches: MakeBench, names: list[str]
) -> None:
    """SIGSTOP; another worker does the work; SIGCONT. Two at a time: each waits for time-outs."""
    places = {name: benches(kafka.bootstrap_servers, topics()) for name in names}
    stopped = {}
    for name, place in places.items():
        place.ask(make_events(EVENTS, seed=3))
        stopped[name] = place.faulty(STOPS[name].fault, **STOPS[name].settings)  # type: ignore[arg-type]
    for worker, signals in stopped.values():
        await_reached(worker, signals)
        worker.process.pause()
    others = {name: place.worker() for name, place in places.items()}
    for name, place in places.items():
        place.await_committed()
        # Without this it is a race: a new session can be had before a transaction is given up.
        if STOPS[name].given_up:
            await_given_up(place)
    for worker, signals in stopped.values():
        signals.go()
        worker.process.resume()
    for name, (worker, _) in stopped.items():
        if STOPS[name].given_up:
            assert await_end(worker) == 70, worker.log()
        else:
            # It takes part again: after the other one is gone, it has all partitions.
            others[name].process.terminate()
            places[name].ask(make_events(EVENTS, seed=4, first=EVENTS))
    for name, place in places.items():
        place.check()
        assert stopped[name][0].process.alive != STOPS[name].given_up
