"""Latency at several loads, with arrivals that wait for nobody.

Questions come at random times that are drawn before, as independent users ask. Each latency counts
from the time at which its question was due, so that a sender or a worker that lags behind makes
later questions late, and does not hide them.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.engine_stages import event_bytes
from bench.engine_texts import Question
from bench.load import Phase, arrivals
from bench.report import Row, Table
from bench.worker_service import Application, Event, Service
from export.bars import progress

SEED = 7
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Due:
    """An event, and the second after the start at which it is due."""

    at_s: float
    event: Event


class _Sender(threading.Thread):
    """Sends each event when it is due; those that are overdue at once."""

    def __init__(self, application: Application, plan: Sequence[Due], began_s: float) -> None:
        super().__init__(name="sender", daemon=True)
        self._application = application
        self._plan = plan
        self._began_s = began_s

    def run(self) -> None:
        for due in self._plan:
            left_s = self._began_s + due.at_s - time.monotonic()
            if left_s > 0:
                time.sleep(left_s)
            self._application.send(due.event)
        self._application.flush()


def latencies(
    service: Service,
    questions: Sequence[Question],
    capacity_per_s: float,
    shares: Sequence[float],
    seconds: float,
) -> Table:
    """Offer `shares` of what the worker can do, each for so many seconds."""
    rows: list[Row] = []
    with progress("Latency at several loads", total=len(shares)) as advance:
        for number, share in enumerate(shares):
            plan = _plan(questions, capacity_per_s * share, seconds, f"l{number}")
            rows.append(_row(share, seconds, play(service.application, plan)))
            advance(1)
    note = (
        f"{len(questions[0].documents)} candidates a question; ms from the time a question was due "
        f"to its answer; 100 % is {capacity_per_s:.2f} questions/s"
    )
    return Table("latency", "Latency under open-loop load", rows, note)


def play(application: Application, plan: Sequence[Due]) -> list[float]:
    """Send a plan in real time; return each latency in seconds."""
    began_s = time.monotonic()
    sender = _Sender(application, plan, began_s)
    sender.start()
    answered = application.await_answers([due.event[0] for due in plan])
    sender.join()
    return [answered[due.event[0]] - (began_s + due.at_s) for due in plan]


def _plan(questions: Sequence[Question], rate_per_s: float, seconds: float, name: str) -> list[Due]:
    times_s = list(arrivals([Phase(seconds, rate_per_s)], SEED)) or [0.0]
    plan: list[Due] = []
    for number, at_s in enumerate(times_s):
        question = questions[number % len(questions)].salted(f"({name} {number})")
        value = event_bytes(number, question).replace(
            f'"q{number}"'.encode(), f'"{name}-{number}"'.encode(), 1
        )
        plan.append(Due(at_s, (f"{name}-{number}", value)))
    return plan


def _row(share: float, seconds: float, found_s: Sequence[float]) -> Row:
    values = np.percentile(np.asarray(found_s) * 1000, PERCENTILES)
    return {
        "load": f"{share:.0%}",
        "questions": len(found_s),
        "questions/s": round(len(found_s) / seconds, 2),
        **{
            f"p{name} ms": round(float(value), 1)
            for name, value in zip(PERCENTILES, values, strict=True)
        },
        "max ms": round(max(found_s) * 1000, 1),
    }
