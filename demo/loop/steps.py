"""The commands of `python -m training`, called as a user would, and what they said."""

import io
import json
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from demo.errors import DemoError
from training.__main__ import main
from training.model_commands import REFUSED

INTERRUPTED = 130


@dataclass(frozen=True)
class Steps:
    """One plan and one run's folder."""

    plan: Path
    run: Path
    console: Console

    def call(self, name: str, *, may_refuse: bool = False) -> dict[str, Any]:
        """Run a command and return what it printed; raises DemoError where it failed."""
        arguments = [name, "--plan", str(self.plan)]
        arguments += ["--json"] if name == "registry" else []
        arguments += [] if name in ("registry", "rollback") else ["--run", str(self.run)]
        self.console.print(
            f"[bold]python -m training {' '.join(arguments)}[/]", soft_wrap=True, highlight=False
        )
        printed = io.StringIO()
        with redirect_stdout(printed):
            code = _exit_code(arguments)
        if code == 0 or (may_refuse and code == REFUSED):
            found: dict[str, Any] = json.loads(printed.getvalue())
            return found
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        raise DemoError(f"`training {name}` ended with exit code {code}: see above")


def _exit_code(arguments: list[str]) -> int:
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
