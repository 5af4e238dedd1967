"""What the rounds came to, as a table and as JSON."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from demo.loop.round import Outcome
from demo.loop.setting import Setting
from demo.loop.world import World
from export.tools import tool_versions

_MEASURES = ("NDCG@10", "MRR@10", "MAP")


def summary(outcomes: Mapping[str, Outcome]) -> Table:
    """Return a column for each round."""
    table = Table(title="One round of the loop, on held-out questions", box=box.SIMPLE)
    table.add_column("")
    for name in outcomes:
        table.add_column(f"{name} users", justify="right")
    rows = list(outcomes.values())
    table.add_row("lists shown", *(f"{one.lists:,}" for one in rows))
    table.add_row("clicks", *(f"{one.clicks:,}" for one in rows))
    for name in _MEASURES:
        table.add_row(name, *(_rise(one, name) for one in rows))
    table.add_row("p of NDCG@10", *(_field(one, "NDCG@10", "p") for one in rows))
    table.add_row("95 % interval", *(_interval(one) for one in rows))
    table.add_row("gate", *("passed" if one.passed else "refused" for one in rows))
    table.add_row("NDCG@10 as served", *(_served(one) for one in rows))
    table.add_row("seconds", *(f"{sum(one.seconds.values()):,.0f}" for one in rows))
    return table


def as_json(
    setting: Setting, world: World, outcomes: Mapping[str, Outcome], seconds: float
) -> dict[str, Any]:
    """Return everything, with the versions of the tools."""
    fields = asdict(setting)
    fields["build"] = str(setting.build)
    return {
        "collection": world.name,
        "questions": {"asked": len(world.asked), "held_out": len(world.held_out)},
        "setting": fields,
        "rounds": {name: asdict(one) for name, one in outcomes.items()},
        "seconds": round(seconds, 1),
        "tools": tool_versions(),
    }


def _measured(outcome: Outcome, name: str) -> dict[str, float] | None:
    found: dict[str, float] | None = outcome.report.get("measures", {}).get(name)
    return found


def _rise(outcome: Outcome, name: str) -> str:
    found = _measured(outcome, name)
    return f"{found['current']:.4f} → {found['new']:.4f}" if found else "-"


def _field(outcome: Outcome, name: str, field: str) -> str:
    found = _measured(outcome, name)
    return f"{found[field]:.4f}" if found else "-"


def _interval(outcome: Outcome) -> str:
    found = _measured(outcome, "NDCG@10")
    return f"{found['low']:+.4f} … {found['high']:+.4f}" if found else "-"


def _served(outcome: Outcome) -> str:
    return f"{outcome.served['NDCG@10']:.4f}" if outcome.served else "-"
