"""The report's plots, as SVG to stand in its HTML; equal data give equal bytes."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from training.label.build import Evidence
from training.label.clicks import ClickLog
from training.label.propensity import Propensities
from training.label_rows import LabelRow

_SOURCES = ("judgement", "annotated", "click", "mined")
_SIZE = (5.2, 3.0)


def draw(rows: Sequence[LabelRow], evidence: Evidence) -> dict[str, str]:
    """Return caption → SVG of what there is to show."""
    log, curve = evidence.log, evidence.propensities
    drawn = {"Labels by source": _svg(lambda axis: _labels(axis, rows))}
    if log.clicks:
        drawn["Clicks by position"] = _svg(lambda axis: _clicks(axis, log))
        drawn["Propensities"] = _svg(lambda axis: _curve(axis, curve))
    drawn["Documents a query"] = _svg(lambda axis: _documents(axis, rows))
    drawn["Length of queries and documents"] = _svg(lambda axis: _lengths(axis, rows))
    return drawn


def _labels(axis: Any, rows: Sequence[LabelRow]) -> None:
    present = [name for name in _SOURCES if any(row.source == name for row in rows)]
    values = [[row.label for row in rows if row.source == name] for name in present]
    axis.hist(values, bins=10, range=(0, 1), stacked=True, label=present)
    axis.set(xlabel="label", ylabel="pairs")
    axis.legend()


def _clicks(axis: Any, log: ClickLog) -> None:
    shown: dict[int, list[int]] = {}
    for exposure in log.exposures.values():
        for position, (seen, clicked) in exposure.positions.items():
            counts = shown.setdefault(position, [0, 0])
            counts[0] += seen
            counts[1] += clicked
    positions = sorted(shown)
    axis.bar(positions, [shown[k][1] / shown[k][0] for k in positions])
    axis.set(xlabel="position", ylabel="clicks / impressions")


def _curve(axis: Any, curve: Propensities) -> None:
    positions = range(1, len(curve.values) + 1)
    axis.plot(
        positions,
        curve.values,
        "-",
        color="0.6",
        label=f"used; unknown ones: 1 / position ^ {curve.eta:.2f}",
    )
    known = list(curve.estimated)
    axis.plot(known, [curve.at(k) for k in known], "o", label="estimated from the log")
    axis.set(xlabel="position", ylabel="propensity", ylim=(0, None))
    axis.legend()


def _documents(axis: Any, rows: Sequence[LabelRow]) -> None:
    counts: dict[str, list[int]] = {}
    for row in rows:
        found = counts.setdefault(row.query_id, [0, 0])
        found[row.label > 0] += 1
    axis.hist(
        [[right for _, right in counts.values()], [wrong for wrong, _ in counts.values()]],
        bins=12,
        label=["label above 0", "label 0"],
    )
    axis.set(xlabel="documents", ylabel="queries")
    axis.legend()


def _lengths(axis: Any, rows: Sequence[LabelRow]) -> None:
    queries = {row.query_id: row.query for row in rows}
    words = [len(query.split()) for query in queries.values()]
    documents = [min(len(row.text.split()), 400) for row in rows]
    axis.hist(
        [words, documents],
        bins=20,
        weights=[[1 / len(words)] * len(words), [1 / len(documents)] * len(documents)],
        label=["queries", "documents (400: and more)"],
    )
    axis.set(xlabel="words", ylabel="share")
    axis.legend()


def _svg(draw_on: Callable[[Any], None]) -> str:
    with mpl.rc_context({"svg.hashsalt": "kafka-reranker", "svg.fonttype": "none"}):
        figure = Figure(figsize=_SIZE, layout="constrained")
        draw_on(figure.subplots())
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
