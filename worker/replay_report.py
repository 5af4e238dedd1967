"""What `python -m worker replay` says: letters on standard output, all else on standard error."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from worker.letters import Letter
from worker.publish import replays_of
from worker.records import Partition, Record
from worker.replay_options import Options

COLUMNS = ("letter", "since", "key", "from", "replays", "error", "what")


class Printer(Protocol):
    """Where letters are shown."""

    def row(self, row: dict[str, object]) -> None:
        """Show one letter."""

    def close(self) -> None:
        """Show what was held back."""


@dataclass
class Report:
    """Counts letters and shows them. Those of a transaction count once it is committed."""

    verb: str
    printer: Printer
    bar: Progress
    task: TaskID
    counts_at_once: bool
    done: int = 0
    total: int = 0
    # By place: after a rebalance letters are read again.
    left: set[tuple[Partition, int]] = field(default_factory=set)
    refused: set[tuple[Partition, int]] = field(default_factory=set)
    waiting: list[dict[str, object]] = field(default_factory=list)

    def begin(self, total: int) -> None:
        """Say how many offsets are to be looked at."""
        self.total = total
        self.bar.update(self.task, total=total)

    def progress(self, behind: int) -> None:
        """Say how many are left."""
        self.bar.update(self.task, completed=max(0, self.total - behind))

    def take(self, letter: Letter, topic: str) -> None:
        """Note a letter that is replayed by the next commit."""
        self.waiting.append(_row(letter.record, letter, f"{self.verb} to {topic}"))
        if self.counts_at_once:
            self.committed()

    def committed(self) -> None:
        """Count the letters that were waiting for it."""
        self.done += len(self.waiting)
        for row in self.waiting:
            self.printer.row(row)
        self.waiting.clear()

    def leave(self, record: Record) -> None:
        """Count a letter that the filters leave out."""
        self.left.add((record.partition, record.offset))

    def refuse(self, record: Record, letter: Letter | None, reason: str) -> None:
        """Show a letter that can't be replayed."""
        place = (record.partition, record.offset)
        if place not in self.refused:
            self.refused.add(place)
            self.printer.row(_row(record, letter, f"can't be replayed: {reason}"))

    @property
    def summary(self) -> str:
        """Return the counts as one line."""
        refused = f", {len(self.refused)} can't be replayed" if self.refused else ""
        return f"{self.verb}: {self.done}, left: {len(self.left)}{refused}"


@contextmanager
def open_report(options: Options) -> Iterator[Report]:
    """Show a bar while letters are looked at, and the counts at the end."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("dead letters"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    verb = "discarded" if options.discard else "replayed"
    verb = f"would be {verb}" if options.dry_run else verb
    printer: Printer = (
        JsonLines() if options.as_json else Lines() if not options.dry_run else Rows()
    )
    report = Report(verb, printer, bar, bar.add_task("", total=None), options.dry_run)
    with bar:
        yield report
    printer.close()
    sys.stderr.write(report.summary + "\n")


class JsonLines:
    """One JSON object a line."""

    def row(self, row: dict[str, object]) -> None:
        """See `Printer`."""
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """See `Printer`."""
        sys.stdout.flush()


class Lines:
    """Only letters that can't be replayed, on standard error: the others are counted."""

    def row(self, row: dict[str, object]) -> None:
        """See `Printer`."""
        if str(row["what"]).startswith("can't"):
            sys.stderr.write(f"letter {row['letter']} ({row['key']}): {row['what']}\n")

    def close(self) -> None:
        """See `Printer`."""


class Rows:
    """A table, for people."""

    def __init__(self) -> None:
        self._table = Table(*COLUMNS, box=None, pad_edge=False)

    def row(self, row: dict[str, object]) -> None:
        """See `Printer`."""
        self._table.add_row(*(_cell(row[name]) for name in COLUMNS))

    def close(self) -> None:
        """See `Printer`."""
        console = Console(soft_wrap=not sys.stdout.isatty())
        if not sys.stdout.isatty():
            console.width = 250
        if self._table.row_count:
            console.print(self._table)


def _row(record: Record, letter: Letter | None, what: str) -> dict[str, object]:
    """Return what is shown of a letter: never its value, which may be private."""
    since = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC).isoformat(timespec="seconds")
    key = None if record.key is None else record.key.decode(errors="replace")
    row: dict[str, object] = {
        "letter": f"{record.partition.number}@{record.offset}",
        "since": since.replace("+00:00", "Z"),
        "key": key,
        "from": None,
        "replays": replays_of(record),
        "error": None,
        "what": what,
    }
    if letter is not None:
        at = letter.headers
        row["from"] = f"{at.topic}/{at.partition}@{at.offset}"
        row["error"] = f"{at.error_class}: {at.error_message}"
    return row


def _cell(value: object) -> Text:
    """Return text without markup or control characters, which a key could bring to a terminal."""
    text = "" if value is None else str(value)
    shown = (char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return Text("".join(shown))
