"""`python -m bench.scale`: how time and memory grow with the queue, with lanes and with workers.

Needs Java and Maven for a real broker. Events have few and short candidates, so that a hundred
thousand of them take minutes; no pair comes twice.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.engine_bundles import BenchError, make_model
from bench.engine_stages import event_bytes
from bench.engine_texts import Question, load_texts
from bench.engine_timing import in_turn, speed_ratio
from bench.load import event
from bench.report import Machine, Row, Table, show, wide_console, write
from bench.worker_service import Event, Service, running_workers
from export.bars import progress
from tests.services.kafka import KafkaCluster
from tests.services.process import ServiceFailed, ServiceMissing

OUT = Path("build/bench")
SIZES = (1_000, 10_000, 100_000)
CANDIDATES, WORDS, SEED = 2, 3, 5
LANES = 2
# Small, so that what a worker keeps on purpose does not hide what it keeps by mistake.
CACHE_BYTES = 4 * 1024 * 1024
# Of lanes and of workers with one lane; all run all the time, and are asked in turn.
FLEETS = {"1 worker, 1 lane": (1, 1), "1 worker, 2 lanes": (1, 2)}
FLEETS |= {"1 worker, 4 lanes": (1, 4), "4 workers, 1 lane each": (4, 1)}
ROUNDS, QUESTIONS, QUESTION_CANDIDATES = 3, 48, 25


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the events")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    sizes = [max(1, size // 100) for size in options.sizes] if options.quick else options.sizes
    questions, rounds = (QUESTIONS // 6, 1) if options.quick else (QUESTIONS, ROUNDS)
    try:
        model = make_model(options.out, "int8").path
        machine = Machine.here()
        with KafkaCluster() as cluster, tempfile.TemporaryDirectory() as scratch:
            tables = [
                queued(cluster, Path(scratch), model, sizes),
                *fleets(cluster, Path(scratch), model, questions, rounds),
            ]
    except (BenchError, ServiceFailed, ServiceMissing) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    show(wide_console(), machine, tables)
    write(options.out, "scale", machine, tables)
    return 0


def queued(cluster: KafkaCluster, scratch: Path, model: Path, sizes: Sequence[int]) -> Table:
    """Ask more and more at once of one worker."""
    rows: list[Row] = []
    small_cache = {"REDIS__MEMORY_BYTES": str(CACHE_BYTES)}
    with (
        running_workers(cluster, scratch, model, LANES, 1, **small_cache) as (service,),
        progress("Queued events", total=sum(sizes)) as advance,
    ):
        service.application.ask([_short(number) for number in range(-200, 0)])
        first = 0
        for size in sizes:
            events = [_short(number) for number in range(first, first + size)]
            began_s, cpu_s = time.monotonic(), service.cpu_s()
            answered = service.application.ask(events)
            took_s = max(answered.values()) - began_s
            rows.append(
                {
                    "events": size,
                    "s": round(took_s, 2),
                    "ms an event": round(took_s / size * 1000, 3),
                    "CPU ms an event": round((service.cpu_s() - cpu_s) / size * 1000, 3),
                    "memory MiB": round(service.memory_mib("VmRSS")),
                    "at its peak": round(service.memory_mib("VmHWM")),
                }
            )
            first += size
            advance(size)
    note = (
        f"one worker of {LANES} lanes, {CANDIDATES} candidates of {WORDS} words an event; "
        f"a cache of {CACHE_BYTES // 2**20} MiB"
    )
    return Table("queued", "Time and memory with what is queued", rows, note)


def fleets(
    cluster: KafkaCluster, scratch: Path, model: Path, count: int, rounds: int
) -> list[Table]:
    """Ask the same of several numbers of lanes and workers, in turn."""
    questions = load_texts().natural(count, QUESTION_CANDIDATES)
    with ExitStack() as stack:
        running: dict[str, Service] = {}
        for name, (workers, lanes) in FLEETS.items():
            started = running_workers(cluster, scratch, model, lanes, workers)
            running[name] = stack.enter_context(started)[0]
            _ask(running[name], questions, f"{name} warm", 0)  # first batches are slower
        timings = in_turn(
            "Lanes and workers",
            {name: partial(_ask, service, questions, name) for name, service in running.items()},
            rounds,
        )
    pairs = count * QUESTION_CANDIDATES
    rows: list[Row] = [
        {"fleet": name, "pairs/s, best": round(pairs / min(each.wall_s for each in found), 1)}
        for name, found in timings.items()
    ]
    compared: Mapping[str, tuple[str, str]] = {
        "two lanes : one": ("1 worker, 2 lanes", "1 worker, 1 lane"),
        "four workers : one of four lanes": ("4 workers, 1 lane each", "1 worker, 4 lanes"),
    }
    ratios: list[Row] = [
        {"ratio": name, "within a round": str(speed_ratio(timings[left], timings[right]))}
        for name, (left, right) in compared.items()
    ]
    note = f"{count} questions of {QUESTION_CANDIDATES} candidates; median (least-most)"
    return [
        Table("fleets", "Lanes and workers", rows, note),
        Table("fleet_ratios", "Lanes and workers: ratios", ratios),
    ]


def _short(number: int) -> Event:
    return event(number, CANDIDATES, WORDS, SEED)


def _ask(service: Service, questions: Sequence[Question], name: str, number: int) -> None:
    events: list[Event] = []
    for place, question in enumerate(questions):
        query_id = f"{name} {number} {place}"
        value = event_bytes(place, question.salted(f"({query_id})"))
        events.append(
            (query_id, value.replace(f'"q{place}"'.encode(), f'"{query_id}"'.encode(), 1))
        )
    service.application.ask(events)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
