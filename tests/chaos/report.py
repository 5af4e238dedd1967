"""Outcomes as a Markdown table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"
COLUMNS = (
    "scenario", "seed", "events", "workers", "kills", "broker restarts", "worker starts",
    "aborted records", "lost", "duplicated", "torn", "out of order", "seconds",
)  # fmt: skip


def as_table(report: Sequence[Mapping[str, Any]]) -> str:
    """Return one row for each scenario."""
    lines = [_row(COLUMNS), _row(["---"] * len(COLUMNS))]
    return "\n".join([*lines, *(_row(_cells(outcome)) for outcome in report)]) + "\n"


def write_section(file: Path, report: Sequence[Mapping[str, Any]]) -> None:
    """Replace what stands between the two markers of a file."""
    text = file.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{file} has no {BEGIN} … {END}")
    file.write_text(f"{before}{BEGIN}\n{as_table(report)}{END}{after}", encoding="utf-8")


def _cells(outcome: Mapping[str, Any]) -> list[str]:
    plan, verdict = outcome["plan"], outcome["verdict"]
    workers = [plan["workers"], *(count for _, count in sorted(plan["scale"].items()))]
    return [
        plan["name"] if plan["nodes"] == 1 else f"{plan['name']} ({plan['nodes']} nodes)",
        str(plan["seed"]),
        str(verdict["asked"]),
        " → ".join(str(count) for count in workers),
        str(outcome["kills"]),
        str(outcome["broker_restarts"]),
        str(outcome["starts"]),
        str(outcome["aborted"]),
        str(verdict["lost"]),
        str(verdict["duplicated"]),
        str(verdict["torn"]),
        str(verdict["misordered"]),
        str(outcome["seconds"]),
    ]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
