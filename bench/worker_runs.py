"""The whole worker against the engine alone, on the same work."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.engine_runs import Engine
from bench.engine_stages import event_bytes
from bench.engine_texts import Question
from bench.engine_timing import Spread, Timing, in_turn, speed_ratio, timed
from bench.report import Row, Table
from bench.worker_service import Event, Service, running_worker
from tests.services.kafka import KafkaCluster

STARTS = 3
# Known questions are answered so fast that more of them are needed.
KNOWN_TIMES = 5


class Comparison:
    """One worker and one engine with the same number of lanes, asked in turn."""

    def __init__(self, service: Service, engine: Engine, starts: Sequence[Timing]) -> None:
        self.service = service
        self._engine = engine
        self._starts = starts
        self._count = 0

    def all_of_it(self, questions: Sequence[Question], rounds: int, fp32_mib: float) -> Table:
        """Measure throughput, one question, known questions, start and memory.

        `fp32_mib` is the size of the fp32 model's file, which memory is compared with.
        """
        rows = self.throughput(questions, rounds)
        rows += self.single(questions)
        rows += self.cached(questions, rounds)
        memory = {"": "VmRSS", " at its peak": "VmHWM"}
        starts_s = Spread.of([start.wall_s for start in self._starts])
        start_cpu_s = Spread.of([start.cpu_s for start in self._starts])
        rows.append({"what": "start to ready, s", "value": str(starts_s)})
        rows.append({"what": "... of CPU time, s", "value": str(start_cpu_s)})
        rows += [
            {"what": f"resident memory{when}, MiB", "value": round(self.service.memory_mib(field))}
            for when, field in memory.items()
        ]
        times = round(self.service.memory_mib("VmHWM") / fp32_mib, 2)
        rows.append({"what": "... times the fp32 model's file", "value": times})
        note = (
            f"{self._engine.lanes.count} lanes, int8, {len(questions)} questions of "
            f"{len(questions[0].documents)} candidates; median (least-most)"
        )
        return Table("worker", "The whole worker on Apache Kafka", rows, note)

    def questions_per_s(self, questions: Sequence[Question]) -> float:
        """Return how many questions a second the worker answers when many wait."""
        return len(questions) / timed(lambda: self._ask(questions)).wall_s

    def throughput(self, questions: Sequence[Question], rounds: int) -> list[Row]:
        """Compare pairs a second with all questions waiting."""
        self._ask(questions)  # The first batches of a process are slower.
        worker_cpu_s: list[float] = []

        def ask(_: int) -> None:
            before_s = self.service.cpu_s()
            self._ask(questions)
            worker_cpu_s.append(self.service.cpu_s() - before_s)

        timings = in_turn(
            "Worker and engine, all waiting",
            {
                "engine": lambda number: self._engine.all_waiting(_fresh(questions, f"e{number}")),
                "worker": ask,
            },
            rounds,
        )
        pairs = sum(len(question.documents) for question in questions)
        rows: list[Row] = [
            {
                "what": f"{name}: pairs/s, best of {rounds}",
                "value": round(pairs / min(timing.wall_s for timing in found), 1),
            }
            for name, found in timings.items()
        ]
        both = zip(timings["engine"], worker_cpu_s, strict=True)
        by_cpu = Spread.of([engine.cpu_s / worker_s for engine, worker_s in both])
        return [
            *rows,
            {
                "what": "worker : engine, pairs/s in the same round",
                "value": str(speed_ratio(timings["worker"], timings["engine"])),
            },
            {"what": "worker : engine, pairs/CPU s of the process", "value": str(by_cpu)},
        ]

    def single(self, questions: Sequence[Question]) -> list[Row]:
        """Compare how long one waiting question takes.

        Each time with other words of the same length before it: what marks a question as new is a
        tenth of its tokens here, so the engine must be given it as well.
        """
        extra: list[float] = []
        totals: list[float] = []
        for number, question in enumerate(questions, start=100):
            alone = timed(partial(self._engine.one_at_a_time, [question.salted(f"(e{number})")]))
            whole = timed(partial(self._ask, [question]))
            again = timed(partial(self._engine.one_at_a_time, [question.salted(f"(f{number})")]))
            totals.append(whole.wall_s * 1000)
            extra.append((whole.wall_s - (alone.wall_s + again.wall_s) / 2) * 1000)
        return [
            {"what": "one question: ms from sending to reading", "value": str(Spread.of(totals))},
            {"what": "... more than the engine alone, ms", "value": str(Spread.of(extra))},
        ]

    def cached(self, questions: Sequence[Question], rounds: int) -> list[Row]:
        """Compare CPU time and the clock of known questions with new ones."""
        clock: list[float] = []
        processor: list[float] = []
        per_known: list[float] = []
        for _ in range(rounds):
            fresh = self._events(questions)
            new, new_cpu = self._asked(fresh)
            again = [self._renamed(event) for _ in range(KNOWN_TIMES) for event in fresh]
            known, known_cpu = self._asked(again)
            clock.append(known / new / KNOWN_TIMES)
            processor.append(known_cpu / new_cpu / KNOWN_TIMES)
            per_known.append(known / len(again) * 1000)
        return [
            {"what": "known question: ms each, many waiting", "value": str(Spread.of(per_known))},
            {"what": "known : new, % by the clock", "value": str(_percent(clock))},
            {"what": "known : new, % of CPU time", "value": str(_percent(processor))},
        ]

    def _ask(self, questions: Sequence[Question]) -> None:
        self.service.application.ask(self._events(questions))

    def _asked(self, events: Sequence[Event]) -> tuple[float, float]:
        began_s, cpu_s = time.monotonic(), self.service.cpu_s()
        answered = self.service.application.ask(events)
        return max(answered.values()) - began_s, self.service.cpu_s() - cpu_s

    def _events(self, questions: Sequence[Question]) -> list[Event]:
        """Return events whose pairs the worker has not seen."""
        events: list[Event] = []
        for question in questions:
            self._count += 1
            salted = question.salted(f"(w{self._count})")
            events.append((f"q{self._count}", event_bytes(self._count, salted)))
        return events

    def _renamed(self, event: Event) -> Event:
        """Return the same question with an id of its own."""
        self._count += 1
        new = f"q{self._count}"
        return new, event[1].replace(f'"{event[0]}"'.encode(), f'"{new}"'.encode(), 1)


@contextmanager
def comparison(
    cluster: KafkaCluster, directory: Path, engine: Engine, model: Path
) -> Iterator[Comparison]:
    """Start a worker with as many lanes as the engine has: several times, and keep the last."""
    starts: list[Timing] = []
    for _ in range(STARTS - 1):
        with running_worker(cluster, directory, model, engine.lanes.count) as service:
            starts.append(service.start)
    with running_worker(cluster, directory, model, engine.lanes.count) as service:
        yield Comparison(service, engine, [*starts, service.start])


def _fresh(questions: Sequence[Question], salt: str) -> list[Question]:
    return [question.salted(f"({salt})") for question in questions]


def _percent(ratios: Sequence[float]) -> Spread:
    return Spread.of([100 * ratio for ratio in ratios])
