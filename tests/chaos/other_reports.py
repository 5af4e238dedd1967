"""What other commands measured of the promises: each leaves a file in `build/`."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

BUILD = Path("build")


def in_words(folder: Path = BUILD) -> dict[str, str]:
    """Return what each report says in a line, by its name; nothing for those that are not there."""
    found = {}
    for name, (file, say) in REPORTS.items():
        path = folder / file
        if path.exists():
            found[name] = say(json.loads(path.read_text(encoding="utf-8")))
    return found


def _overload(report: Mapping[str, Any]) -> str:
    phase, memory = report["phases"]["overload"], report["rss_mb"]
    tiers = ", ".join(f"{tier} {count}" for tier, count in sorted(phase["tiers"].items()))
    quarters = ", ".join(f"{value:.0f}" for value in memory["overload_by_quarters"])
    minutes, rate = report.get("seconds", 0) / 60, report["sustainable_events_per_s"]
    return (
        f"`python -m bench.overload`: {report['times']:g} times {rate} "
        f"events/s for {minutes:g} min, deadline {report['deadline_ms']} ms: {phase['events']} "
        f"events, age p50 {phase['age_p50']:.0f} ms, p99 {phase['age_p99']:.0f} ms, "
        f"{phase['within']:.2%} within the deadline + 10 %; {tiers}; RSS at the end of each "
        f"quarter {quarters} MB, most {memory['most']:.0f} MB; at most "
        f"{report['waiting_events_most']:.0f} events waiting"
    )


def _redis(report: Mapping[str, Any]) -> str:
    parts = [
        f"{name} {one['p50_ms']:.0f} / {one['most_ms']:.0f}"
        f"{'' if one['same_rankings'] else ' (OTHER RANKINGS)'}"
        for name, one in report.items()
    ]
    return "`python -m bench.redis_faults`, median / most in ms: " + ", ".join(parts)


def _fuzz(report: Mapping[str, Any]) -> str:
    parts = [
        f"`{name}` {one['inputs']:,} inputs in {one['seconds']} s: {one['result']}"
        for name, one in report.items()
    ]
    return "`make fuzz`: " + ", ".join(parts)


def _audit(report: Mapping[str, Any]) -> str:
    return f"`make audit`: {report['said']}"


def _mutations(report: list[Mapping[str, Any]]) -> str:
    noticed = sum(bool(one["noticed_by"]) for one in report)
    return f"`make mutations`: {len(report)} changes of the code, {noticed} noticed"


REPORTS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "overload": ("overload.json", _overload),
    "redis": ("redis-faults.json", _redis),
    "fuzz": ("fuzz.json", _fuzz),
    "audit": ("audit.json", _audit),
    "mutations": ("mutations.json", _mutations),
}
