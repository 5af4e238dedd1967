"""The registry as a table on standard output."""

from rich.console import Console
from rich.table import Table

from training.registry import Change, Registry

WIDTH = 140


def show(registry: Registry) -> None:
    """Print one line a change, the latest last, and mark the model that serves."""
    current = registry.current()
    table = Table(box=None, pad_edge=False)
    for name in ("when (UTC)", "what", "model", "NDCG@10", "made from", "serves"):
        table.add_column(name, no_wrap=True)
    for change in registry.changes():
        serves = "yes" if change.digest == current else ""
        table.add_row(
            change.at, change.event, _short(change.digest), _rise(change), _origin(change), serves
        )
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=WIDTH)
    if current is None:
        console.print(f"no model was promoted to {registry.folder} yet")
    else:
        console.print(table)


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _rise(change: Change) -> str:
    measured = (change.figures or {}).get("measures", {}).get("NDCG@10")
    return f"{measured['current']:.4f} → {measured['new']:.4f}" if measured else ""


def _origin(change: Change) -> str:
    if change.lineage is None:
        return ""
    return f"run {change.lineage.run}, data {_short(change.lineage.data)}"
