"""`report.html`: one file, without scripts or anything from elsewhere."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from training.label.build import Labelled
from training.label.plots import draw
from training.run_folder import written_beside

_EXAMPLES = 8
_DISPUTES = 20


def write_report(path: Path, labelled: Labelled, summary: dict[str, Any]) -> None:
    """Write the report, whole or not at all. What users wrote is escaped."""
    rows = labelled.rows
    environment = Environment(
        loader=PackageLoader("training.label", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    # Drawn by us; titles and labels in it are constants, numbers and names of sources.
    plots = {
        name: Markup(svg)  # noqa: S704
        for name, svg in draw(rows, labelled.evidence).items()
    }
    html = environment.get_template("report.html").render(
        summary=summary,
        plots=plots,
        disputes=sorted(labelled.disputes, key=lambda one: -_spread(one.labels.values()))[
            :_DISPUTES
        ],
        best=sorted(rows, key=lambda row: -row.weight * row.label)[:_EXAMPLES],
    )
    with written_beside(path) as beside:
        beside.write_text(html, encoding="utf-8")


def _spread(labels: Any) -> float:
    values = list(labels)
    return float(max(values) - min(values))
