"""What is to go wrong in a worker, handed to `tests.chaos.faulty_worker` in its environment.

A worker's commit is a row of steps: begin, results, feedback, dead_letters, offsets, commit (or
abort). A fault strikes before or after the n-th time that one of them is done.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Step = Literal["begin", "results", "feedback", "dead_letters", "offsets", "commit", "abort"]
STEPS: tuple[Step, ...] = get_args(Step)
FAULT, FOLDER, SCORE_MS, UNSAFE = "CHAOS_FAULT", "CHAOS_FOLDER", "CHAOS_SCORE_MS", "CHAOS_UNSAFE"


@dataclass(frozen=True)
class Fault:
    """`die`: SIGKILL at that point. `wait`: until the test says `go`, see `Signals`.

    `lose` (before a record): it is never sent and its future times out, while the transaction
    stays as it was: what kafka-python does where a record waits for a connection for too long.
    """

    action: Literal["die", "wait", "lose"]
    when: Literal["before", "after"]
    step: Step
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.action}:{self.when}:{self.step}:{self.nth}"

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """Return what `str` made a text of."""
        action, when, step, nth = text.split(":")
        return cls(action, when, step, int(nth))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Signals:
    """Files by which a worker and its test tell each other how far they are."""

    folder: Path

    @property
    def reached(self) -> bool:
        """Whether the worker has come to its fault."""
        return (self.folder / "reached").exists()

    def reach(self) -> None:
        """Tell the test that the worker is there."""
        (self.folder / "reached").touch()

    @property
    def may_go(self) -> bool:
        """Whether the test lets the worker go on."""
        return (self.folder / "go").exists()

    def go(self) -> None:
        """Let the worker go on."""
        (self.folder / "go").touch()

    def note(self, step: str) -> None:
        """Append a step that was begun or done."""
        with (self.folder / "steps").open("a", encoding="utf-8") as file:
            file.write(f"{step}\n")

    def steps(self) -> list[str]:
        """Return all steps so far, such as `before:commit`."""
        file = self.folder / "steps"
        return file.read_text(encoding="utf-8").split() if file.exists() else []


def variables(
    folder: Path, fault: Fault | None = None, *, score_ms: int = 0, unsafe: bool = False
) -> dict[str, str]:
    """Return the environment of a faulty worker, beside that of its settings.

    `score_ms`: each model batch takes so much longer. `unsafe`: errors of records are passed over.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = {FOLDER: str(folder), SCORE_MS: str(score_ms), UNSAFE: "1" if unsafe else ""}
    return found if fault is None else {**found, FAULT: str(fault)}


def fault_of(environment: Mapping[str, str] = os.environ) -> Fault | None:
    """Return the fault that an environment asks for."""
    text = environment.get(FAULT)
    return None if text is None else Fault.parse(text)
