"""The rerankers that are compared, ours among them, behind one interface."""

import json
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from bench.engine_bundles import BenchError
from bench.engine_runs import Engine
from bench.engine_texts import Question
from bench.engine_timing import Timing, timed
from bench.peers_setup import Setting

START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 10
BATCH_SIZES = (8, 32)
Scores = list[list[float]]


@dataclass(frozen=True)
class Answered:
    """How long it took, and the scores of each question's candidates."""

    timing: Timing
    scores: Scores


class Player(Protocol):
    """A reranker."""

    def answer(self, questions: Sequence[Question], *, one_at_a_time: bool) -> Answered:
        """Score all questions, each by itself or all of them at once."""

    def close(self) -> None:
        """Let go of threads and processes."""


class Ours:
    """The project's own engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def answer(self, questions: Sequence[Question], *, one_at_a_time: bool) -> Answered:
        """See `Player`."""
        scores: Scores = []
        groups = [[each] for each in questions] if one_at_a_time else [list(questions)]

        def work() -> None:
            for group in groups:
                logits = iter(self._engine.submit(group).result().tolist())
                scores.extend([next(logits) for _ in each.documents] for each in group)

        return Answered(timed(work), scores)

    def close(self) -> None:
        """See `Player`."""
        self._engine.lanes.close()


class Peer:
    """Another reranker, in a process of its own, at the batch size that suits it best."""

    def __init__(self, kind: str, process: "subprocess.Popen[str]") -> None:
        self._kind = kind
        self._process = process
        self._batch_size = BATCH_SIZES[-1]

    @classmethod
    def start(cls, kind: str, setting: Setting) -> "Peer":
        """Start it, and return once it has loaded its model; raises BenchError."""
        process = setting.child(kind)
        assert process.stdout is not None
        with ThreadPoolExecutor(1) as reader:
            said = reader.submit(process.stdout.readline)
            try:
                ready = said.result(timeout=START_TIMEOUT_S).strip() == "ready"
            except TimeoutError:
                ready = False
            if not ready:
                process.kill()
                raise BenchError(f"{kind} did not start: see peer-{kind}.log")
        return cls(kind, process)

    def choose_batch_size(self, questions: Sequence[Question]) -> int:
        """Try the batch sizes and keep the fastest."""
        self._ask(questions, one_at_a_time=False, batch_size=BATCH_SIZES[0])  # warms it up
        cpu_s = {
            size: self._ask(questions, one_at_a_time=False, batch_size=size).timing.cpu_s
            for size in BATCH_SIZES
        }
        self._batch_size = min(cpu_s, key=lambda size: cpu_s[size])
        return self._batch_size

    def answer(self, questions: Sequence[Question], *, one_at_a_time: bool) -> Answered:
        """See `Player`."""
        return self._ask(questions, one_at_a_time=one_at_a_time, batch_size=self._batch_size)

    def close(self) -> None:
        """See `Player`."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # It has answered all that it was asked.
            self._process.wait()

    def _ask(
        self, questions: Sequence[Question], *, one_at_a_time: bool, batch_size: int
    ) -> Answered:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {
            "questions": [(each.query, each.documents) for each in questions],
            "one_at_a_time": one_at_a_time,
            "batch_size": batch_size,
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"{self._kind} ended by itself: see peer-{self._kind}.log")
        found = json.loads(line)
        return Answered(Timing(found["wall_s"], found["cpu_s"]), found["scores"])
