"""Workers that are started again whenever they end, as an orchestrator does it."""

import contextlib
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from tests.services.process import await_condition
from tests.services.worker import WorkerProcess

WATCH_S = 0.05
# Killed; asked to end, working or while still starting; fatal; or the broker was away at start.
KNOWN_EXITS = {0, 70, 78, -9, -15}


class Fleet:
    """Keeps as many workers alive as wanted; a context manager."""

    def __init__(self, directory: Path, settings: Mapping[str, str], wanted: int = 1) -> None:
        self._directory = directory
        self._settings = settings
        self._wanted = wanted
        self._lock = threading.Lock()
        self._workers: list[WorkerProcess] = []
        self._numbers = iter(range(1_000_000))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="fleet", daemon=True)
        self.exits: Counter[int] = Counter()
        self.starts = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        for worker in self._workers:
            worker.process.terminate()

    def scale(self, wanted: int) -> None:
        """Have so many workers: the newest go first, by SIGTERM, and drain."""
        with self._lock:
            self._wanted = wanted
            surplus, self._workers = self._workers[wanted:], self._workers[:wanted]
        for worker in surplus:
            worker.process.terminate()
            self._note_exit(worker)

    def kill_one(self, chance: Random) -> bool:
        """SIGKILL a worker that takes work, or any; False when none is there to be killed."""
        with self._lock:
            alive = [worker for worker in self._workers if worker.process.alive]
        ready = [worker for worker in alive if worker.get("/readyz") == 200]
        if not (ready or alive):
            return False
        victim = chance.choice(ready or alive)
        with contextlib.suppress(ProcessLookupError):
            victim.process.kill()
        return True

    def await_ready(self, timeout_s: float = 240.0) -> None:
        """Return once all take work."""
        await_condition(
            lambda: (
                len(self._workers) == self._wanted
                and all(worker.get("/readyz") == 200 for worker in self._workers)
            ),
            timeout_s,
            self.describe,
        )

    def describe(self) -> str:
        """Return the ends of all logs."""
        with self._lock:
            workers = list(self._workers)
        return "\n".join(worker.process.describe("as it is") for worker in workers)

    def unknown_exits(self) -> dict[int, int]:
        """Return exit codes that no worker should end with, and how often it did."""
        return {code: count for code, count in self.exits.items() if code not in KNOWN_EXITS}

    def _watch(self) -> None:
        while not self._stop.wait(WATCH_S):
            with self._lock:
                self._replace_ended()
                while len(self._workers) < self._wanted:
                    self._workers.append(self._start())

    def _replace_ended(self) -> None:
        for place, worker in enumerate(self._workers):
            if not worker.process.alive:
                self._note_exit(worker)
                self._workers[place] = self._start()

    def _start(self) -> WorkerProcess:
        name = f"worker-{next(self._numbers)}"
        worker = WorkerProcess(self._directory, name, self._settings)
        worker.process.start()
        self.starts += 1
        return worker

    def _note_exit(self, worker: WorkerProcess) -> None:
        code = worker.process.exit_code
        assert code is not None
        self.exits[code] += 1
