"""Each promise, the tests that can break it, and what they said last: the table of docs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

E2E = "tests/e2e"
UNIT = "tests/unit/worker"


@dataclass(frozen=True)
class Promise:
    """What a worker promises; `tests` are ids of pytest, `scenarios` names of the long form."""

    number: int
    text: str
    tests: Sequence[str]
    scenarios: Sequence[str] = ()


STEPS = f"{E2E}/test_guarantees_steps.py"
FENCING = f"{E2E}/test_guarantees_fencing.py"
STOPPED = f"{E2E}/test_guarantees_stopped.py"
GONE = f"{E2E}/test_guarantees_broker_gone.py"
KILLS = f"{E2E}/test_guarantees_kills.py"
STREAMING = f"{E2E}/test_streaming.py"
REDIS = f"{E2E}/test_redis_faults.py"
STREAM = f"{E2E}/test_guarantees_stream.py"

PROMISES = (
    Promise(
        1,
        "Workers killed at random: each query has its answer exactly once.",
        [f"{KILLS}::test_killed_workers"],
        ["kills"],
    ),
    Promise(
        2,
        "The same while the broker restarts, or a node of three is lost.",
        [
            f"{KILLS}::test_killed_workers_and_a_killed_broker",
            f"{KILLS}::test_three_nodes_lose_one",
        ],
        ["broker", "leader"],
    ),
    Promise(
        3,
        "The same while workers go from one to three and back.",
        [f"{KILLS}::test_one_worker_three_and_one_again"],
        ["scaling"],
    ),
    Promise(
        4,
        "Result, impression, dead letter and offset appear together or not at all.",
        [f"{STEPS}::test_result_impression_dead_letter_and_offset_are_one"],
    ),
    Promise(
        5,
        "A record that times out, or an epoch that ends within a commit, moves no offset.",
        [
            f"{FENCING}::test_a_result_that_times_out_takes_its_offset_along",
            f"{FENCING}::test_results_that_a_stalled_network_holds_back_are_not_written_twice",
            f"{FENCING}::test_the_witness_sees_what_the_client_would_lose",
            f"{FENCING}::test_a_transaction_that_the_broker_gave_up_is_not_committed",
            f"{UNIT}/test_kafka_broker.py::test_after_a_record_that_was_not_written_no_offset_moves",
        ],
    ),
    Promise(
        6,
        "A worker that is stopped past its session and goes on repeats nothing.",
        [
            f"{STOPPED}::test_who_was_stopped_past_its_session_repeats_nothing",
            f"{STREAM}::test_one_of_two_that_stops_is_replaced",
            f"{FENCING}::test_of_two_producers_with_one_id_the_older_one_ends",
        ],
    ),
    Promise(
        7,
        "Without a broker, a commit ends the process within the transaction time-out and 5 s.",
        [f"{GONE}::test_without_a_broker_a_commit_ends_the_process"],
    ),
    Promise(
        8,
        "After an abort, the position is the committed offset.",
        [f"{FENCING}::test_after_an_abort_the_position_is_the_committed_offset"],
    ),
    Promise(
        9,
        "Start refuses auto-commit, `latest`, uncommitted reads, and time-outs that do not fit.",
        [f"{STREAM}::test_start_refuses_what_would_lose_exactly_once"],
    ),
    Promise(
        10,
        "Order within a partition holds; no commit passes a gap.",
        [
            f"{UNIT}/test_loop_exactly_once.py::test_each_event_is_answered_once_and_in_order",
            f"{STREAM}::test_partitions_move_while_batches_are_scored",
        ],
        ["kills", "broker", "leader", "scaling"],
    ),
    Promise(
        11,
        "A poison record becomes a dead letter once, bytes intact, and fails alone.",
        [
            f"{STREAMING}::test_bad_records_become_dead_letters_and_neighbours_are_answered",
            f"{STEPS}::test_result_impression_dead_letter_and_offset_are_one",
        ],
    ),
    Promise(
        12,
        "What is away for a while is tried again after a random time, without a rebalance.",
        [
            f"{FENCING}::test_a_result_that_times_out_takes_its_offset_along",
            f"{STREAM}::test_networks_that_fail",
        ],
    ),
    Promise(
        13,
        "Dead letters can be replayed.",
        [
            f"{E2E}/test_replay.py::test_letters_come_back_as_they_were_and_only_once",
            f"{E2E}/test_replay.py::test_the_whole_circle_with_a_worker",
        ],
    ),
    Promise(
        14,
        "Under overload fewer candidates, a smaller model, retrieval order; each list says which.",
        [f"{E2E}/test_overload.py::test_tiers_give_way_under_ten_times_the_load_and_come_back"],
    ),
    Promise(
        15,
        "A deadline never ends in silence.",
        [f"{STREAM}::test_deadlines_that_have_passed_are_answered_too"],
    ),
    Promise(
        16,
        "Queues are bounded: ten times the backlog takes no more memory.",
        [f"{STREAM}::test_ten_times_the_backlog_takes_no_more_memory"],
    ),
    Promise(
        17,
        "SIGTERM drains and leaves the group.",
        [f"{STREAM}::test_sigterm_drains_and_leaves"],
    ),
    Promise(
        18,
        "Redis down, black-holed or full of rubbish: the same ranking, with a breaker.",
        [
            f"{REDIS}::test_every_fault_gives_the_same_rankings_and_the_breaker_closes_again",
            f"{REDIS}::test_garbage_and_a_flush",
        ],
    ),
    Promise(
        19,
        "Cached equals computed; under a new digest nothing old is found.",
        [
            f"{STREAMING}::test_the_same_question_gets_the_same_list",
            f"{UNIT}/test_caches.py::test_another_models_score_is_never_seen",
        ],
    ),
    Promise(
        20,
        "The trace goes from the query event to its list, impression, dead letter and log.",
        [f"{STREAM}::test_the_trace_goes_from_end_to_end"],
    ),
)


@dataclass(frozen=True)
class Said:
    """What a test said: how many cases of it there were, and what it measured."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    figures: Sequence[str] = field(default_factory=tuple)


def read_junit(file: Path) -> dict[str, Said]:
    """Return what each test said, by its id without parameters, from pytest's `--junit-xml`."""
    found: dict[str, Said] = {}
    for case in ElementTree.parse(file).iter("testcase"):
        path = f"{case.get('classname', '').replace('.', '/')}.py"
        name = f"{path}::{case.get('name', '').split('[')[0]}"
        found[name] = _add(found.get(name, Said()), case)
    return found


def _add(said: Said, case: ElementTree.Element) -> Said:
    failed = case.find("failure") is not None or case.find("error") is not None
    skipped = case.find("skipped") is not None
    figures = [
        str(one.get("value")) for one in case.iter("property") if one.get("name") == "figures"
    ]
    return Said(
        said.passed + (not failed and not skipped),
        said.failed + failed,
        said.skipped + skipped,
        said.seconds + float(case.get("time", "0")),
        (*said.figures, *figures),
    )


def as_rows(said: Mapping[str, Said], long_form: Mapping[str, str]) -> list[list[str]]:
    """Return the table's rows: number, promise, tests, latest figures."""
    return [
        [
            str(promise.number),
            promise.text,
            "<br>".join(f"`{_short(test)}`" for test in promise.tests),
            "<br>".join(
                [
                    *(_figures(said.get(test)) for test in promise.tests),
                    *(long_form[name] for name in promise.scenarios if name in long_form),
                ]
            ),
        ]
        for promise in PROMISES
    ]


def _short(test: str) -> str:
    file, name = test.split("::")
    return f"{Path(file).name}::{name}"


def _figures(said: Said | None) -> str:
    if said is None:
        return "not run"
    cases = said.passed + said.failed + said.skipped
    counts = f"{said.passed} of {cases} passed" if cases > 1 or not said.passed else "passed"
    skipped = f", {said.skipped} skipped" if said.skipped else ""
    figures = "".join(f"; {figure}" for figure in said.figures)
    return f"{counts}{skipped} in {said.seconds:.0f} s{figures}"
