"""Plots beside the tables, where matplotlib is installed (extra [bench])."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.report import Row, Table

if TYPE_CHECKING:
    from collections.abc import Mapping

MISSING = "no plots: install the extra [bench] for them"


def plot(folder: Path, tables: Sequence[Table]) -> list[Path]:
    """Write `throughput.svg` and `latency.svg` as far as there is data; [] without matplotlib."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an optional extra
    except ImportError:
        return []
    mpl.use("svg")
    by_name: Mapping[str, Table] = {table.name: table for table in tables}
    written: list[Path] = []
    if (engine := by_name.get("engine")) is not None and engine.rows:
        written.append(_bars(folder / "throughput.svg", engine.rows))
    if (latency := by_name.get("latency")) is not None and latency.rows:
        written.append(_lines(folder / "latency.svg", latency.rows))
    return written


def _bars(file: Path, rows: Sequence[Row]) -> Path:
    figure, axes = _figure(len({row["texts"] for row in rows}))
    for axis, kind in zip(axes, dict.fromkeys(row["texts"] for row in rows), strict=True):
        of_kind = [row for row in rows if row["texts"] == kind]
        names = [f"{row['precision']}, {row['lanes']} lanes\n{row['questions']}" for row in of_kind]
        bars = axis.barh(names, [row["pairs/s"] for row in of_kind])
        axis.bar_label(bars, fmt="%.0f", padding=2)
        axis.set(xlabel="pairs/s", title=f"{kind}, {of_kind[0]['tokens/pair']} tokens a pair")
        axis.invert_yaxis()
    return _save(figure, file)


def _lines(file: Path, rows: Sequence[Row]) -> Path:
    figure, (axis,) = _figure(1)
    for column in [name for name in rows[0] if name.startswith("p") and name.endswith(" ms")]:
        axis.plot(
            [row["load"] for row in rows], [row[column] for row in rows], "o-", label=column[:-3]
        )
    axis.set(xlabel="load", ylabel="ms from due to answered", yscale="log")
    axis.grid(visible=True, which="both", alpha=0.3)
    axis.legend()
    return _save(figure, file)


def _figure(columns: int) -> tuple[Any, Sequence[Any]]:
    from matplotlib.figure import Figure  # noqa: PLC0415 - an optional extra

    figure = Figure(figsize=(5.5 * columns, 3.6), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _save(figure: Any, file: Path) -> Path:
    figure.savefig(file)
    return file
