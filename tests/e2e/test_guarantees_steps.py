"""A commit that is interrupted between any two of its steps: all of it is there, or nothing."""

from collections.abc import Callable

from tests.chaos.faults import Fault
from tests.chaos.load import Event, make_events
from tests.chaos.settings import UNHURRIED
from tests.chaos.verdict import aborted_records, assert_no_gap, await_settled
from tests.checker import committed_offsets, read_topic
from tests.e2e.chaos_bench import Bench, MakeBench, await_end
from tests.services.kafka import KafkaCluster
from tests.services.topics import Topics

# The second transaction is the one that is interrupted: the first one shows that all worked.
POINTS = [
    Fault("die", "before", "begin", 2),
    Fault("die", "after", "begin", 2),
    Fault("die", "after", "results", 9),
    Fault("die", "after", "feedback", 9),
    Fault("die", "after", "dead_letters", 3),
    Fault("die", "before", "offsets", 2),
    Fault("die", "after", "offsets", 2),
    Fault("die", "before", "commit", 2),
    Fault("die", "after", "commit", 2),
]
BATCH = 10


def batch_of(first: int) -> list[Event]:
    """Eight events that are answered, and two that become dead letters, in the midst of them."""
    events = make_events(BATCH, seed=first, bad_share=0.0, first=first)
    for place in (3, 6):
        query_id = events[place].query_id
        events[place] = Event(query_id, b"\xff%d" % place, bad=True)
    return events


def test_result_impression_dead_letter_and_offset_are_one(
    kafka: KafkaCluster, topics: Callable[..., Topics], benches: MakeBench
) -> None:
    """A worker is killed at each point of a commit; then another one goes on."""
    bootstrap = kafka.bootstrap_servers
    places = {str(fault): benches(bootstrap, topics()) for fault in POINTS}
    for fault in POINTS:
        place = places[str(fault)]
        for first in (0, BATCH, 2 * BATCH):
            place.ask(batch_of(first))
        place.faulty(fault, BATCH__MAX_EVENTS=str(BATCH), **UNHURRIED)  # type: ignore[arg-type]
    for fault in POINTS:
        assert await_end(places[str(fault)].workers[0]) == -9, f"{fault} did not strike"
    for fault in POINTS:
        assert_all_or_nothing(fault, places[str(fault)])
    for place in places.values():
        place.worker(BATCH__MAX_EVENTS=str(BATCH))
    for place in places.values():
        verdict = place.check()
        assert (verdict.answered, verdict.impressions, verdict.dead_letters) == (24, 24, 6)


def assert_all_or_nothing(fault: Fault, place: Bench) -> None:
    """The transaction that was interrupted is visible on all topics, or on none."""
    bootstrap, names = place.bootstrap, place.topics
    batches = 2 if fault.step == "commit" and fault.when == "after" else 1
    # Once the broker has given up what the dead worker began, its records are passed over.
    await_settled(bootstrap, names)
    assert len(read_topic(bootstrap, names.results)) == 8 * batches, fault
    assert len(read_topic(bootstrap, names.feedback)) == 8 * batches, fault
    assert len(read_topic(bootstrap, names.dead_letters)) == 2 * batches, fault
    committed = committed_offsets(bootstrap, names.group_id, names.queries)
    assert committed == {0: BATCH * batches}, fault
    assert_no_gap(bootstrap, names)
    if (fault.when, fault.step) in {("after", "results"), ("after", "offsets")}:
        assert aborted_records(bootstrap, names.results) > 0, f"{fault} came too soon"
