"""Progress on standard error: a bar on a terminal, otherwise one line when the work begins."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

Advance = Callable[[int], None]


@contextmanager
def progress(task: str, total: int | None = None) -> Iterator[Advance]:
    """Give a function that takes how many more are done; without `total` no end is known."""
    console = Console(stderr=True)
    if not console.is_terminal:
        of = "" if total is None else f" ({total:,})"
        console.print(f"{task}{of} …", highlight=False)
        yield lambda _: None
        return
    columns = (SpinnerColumn(), TextColumn(task), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        row = bar.add_task(task, total=total)
        yield lambda count: bar.advance(row, count)
