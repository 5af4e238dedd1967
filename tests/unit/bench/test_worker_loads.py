"""Latency under open-loop load, with an application that is no Kafka."""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from bench.engine_texts import Question
from bench.worker_loads import Due, latencies, play

STALL_S = 0.2


class Application:
    """Takes each event in `stall_s` seconds, and answers it at once."""

    def __init__(self, stall_s: float = 0.0) -> None:
        self._stall_s = stall_s
        self._answered: dict[str, float] = {}
        self._changed = threading.Condition()

    def send(self, event: tuple[str, bytes]) -> None:
        time.sleep(self._stall_s)
        with self._changed:
            self._answered[event[0]] = time.monotonic()
            self._changed.notify()

    def flush(self) -> None:
        pass

    def await_answers(self, query_ids: Sequence[str]) -> Mapping[str, float]:
        with self._changed:
            self._changed.wait_for(lambda: set(query_ids) <= set(self._answered))
            return dict(self._answered)


def test_a_stall_makes_later_questions_late() -> None:
    """All were due at the start: the third has waited for three stalls, not for its own."""
    plan = [Due(0.0, (f"q{number}", b"")) for number in range(3)]
    found = play(cast("Any", Application(STALL_S)), plan)
    for number, latency_s in enumerate(found, start=1):
        assert latency_s >= number * STALL_S


def test_each_load_has_its_row() -> None:
    class Service:
        application = Application()

    questions = [Question("q", ("d1", "d2"))]
    table = latencies(cast("Any", Service()), questions, 1000.0, (0.5, 1.0), 0.1)
    assert [row["load"] for row in table.rows] == ["50%", "100%"]
    half, whole = (cast("int", row["questions"]) for row in table.rows)
    assert half > 10
    assert whole > half
