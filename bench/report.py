"""What a bench found: tables, as JSON, as Markdown, and for people."""

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from engine.graph import runtime_versions

WIDTH = 120

Value = str | int | float | None
Row = Mapping[str, Value]


@dataclass(frozen=True)
class Table:
    """Rows of one kind; all have the same columns, whose names hold the units."""

    name: str
    title: str
    rows: Sequence[Row]
    note: str = ""


@dataclass(frozen=True)
class Machine:
    """Where it was measured. `load` is the system's one-minute load when the bench began."""

    cpu: str
    cores: int
    load: float
    python: str
    versions: Mapping[str, str]

    @classmethod
    def here(cls) -> "Machine":
        """Describe this machine."""
        return cls(
            cpu=_cpu_name(),
            cores=len(os.sched_getaffinity(0)),
            load=round(os.getloadavg()[0], 1),
            python=platform.python_version(),
            versions=runtime_versions(),
        )


def write(folder: Path, stem: str, machine: Machine, tables: Sequence[Table]) -> None:
    """Write `<stem>.json` and `<stem>.md` below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": asdict(machine),
        "tables": {table.name: [dict(row) for row in table.rows] for table in tables},
        "titles": {table.name: table.title for table in tables},
        "notes": {table.name: table.note for table in tables},
    }
    (folder / f"{stem}.json").write_text(json.dumps(found, indent=2) + "\n")
    lines = [headline(machine), "", *(line for table in tables for line in markdown(table))]
    (folder / f"{stem}.md").write_text("\n".join(lines))


def wide_console() -> Console:
    """Return standard output; where it is no terminal, with room for every column."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def show(console: Console, machine: Machine, tables: Sequence[Table]) -> None:
    """Print all tables."""
    console.print(headline(machine), highlight=False)
    for table in tables:
        shown = RichTable(title=table.title, caption=table.note or None, title_justify="left")
        for column in table.rows[0] if table.rows else ():
            numeric = isinstance(table.rows[0][column], int | float)
            shown.add_column(column, justify="right" if numeric else "left")
        for row in table.rows:
            shown.add_row(*(_text(value) for value in row.values()))
        console.print(shown)


def markdown(table: Table) -> list[str]:
    """Return the lines of a table with its heading."""
    lines = [f"### {table.title}", ""]
    if table.rows:
        columns = list(table.rows[0])
        lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(map(_text, row.values())) + " |" for row in table.rows]
        lines.append("")
    return [*lines, *([table.note, ""] if table.note else [])]


def headline(machine: Machine) -> str:
    """Return one line about the machine."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return (
        f"{machine.cpu}, {machine.cores} cores, load {machine.load} at the start; "
        f"Python {machine.python}, {versions}"
    )


def _text(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else value


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
