"""Outcomes as Markdown: one table of the long form, and one of all promises."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.chaos.said import Said, as_rows

COLUMNS = (
    "scenario", "seed", "events", "workers", "kills", "broker restarts", "worker starts",
    "aborted records", "lost", "duplicated", "torn", "out of order", "seconds",
)  # fmt: skip
PROMISE_COLUMNS = ("#", "promise", "tests", "latest figures")


def as_table(report: Sequence[Mapping[str, Any]]) -> str:
    """Return one row for each scenario."""
    return _table(COLUMNS, [_cells(outcome) for outcome in report])


def as_promises(
    said: Mapping[str, Said], report: Sequence[Mapping[str, Any]], others: Mapping[str, str]
) -> str:
    """Return one row for each promise; `others` are further reports by name, in words."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in report:
        found[outcome["plan"]["name"]][_in_words(outcome)] += 1
    long_form = {name: "<br>".join(_counted(words)) for name, words in found.items()}
    return _table(PROMISE_COLUMNS, as_rows(said, {**long_form, **others}))


def _counted(words: Counter[str]) -> list[str]:
    return [f"{each} ({times} times)" if times > 1 else each for each, times in words.items()]


def write_section(file: Path, name: str, text: str) -> None:
    """Replace what stands between two markers of a file; raises ValueError where they are not."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = file.read_text(encoding="utf-8").partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{file} has no {begin} … {end}")
    file.write_text(f"{before}{begin}\n{text}{end}{after}", encoding="utf-8")


def _in_words(outcome: Mapping[str, Any]) -> str:
    verdict = outcome["verdict"]
    restarts = outcome["broker_restarts"]
    also = f", {restarts} broker restarts" if restarts else ""
    return (
        f"long form `{outcome['plan']['name']}`: {verdict['asked']} events, {outcome['kills']} "
        f"kills{also}: {verdict['lost']} lost, {verdict['duplicated']} duplicated, "
        f"{verdict['misordered']} out of order"
    )


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


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)
