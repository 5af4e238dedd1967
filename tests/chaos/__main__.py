"""The long form of the delivery tests: `python -m tests.chaos --help`, or `make chaos`."""

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.other_reports import in_words
from tests.chaos.promises import PROMISES
from tests.chaos.report import as_promises, as_table, write_section
from tests.chaos.said import read_junit
from tests.chaos.scenarios import Plan, run_alone
from tests.services.process import ServiceMissing

REPORT = Path("build/chaos/report.json")
SHORT = "short.xml"


def plans(events: int, kills: int, seed: int) -> dict[str, Plan]:
    """Return the scenarios of the long form by name."""
    every = [
        Plan("kills", events, kills, seed),
        Plan("scaling", events, kills // 2, seed + 1, workers=1, scale={0.2: 3, 0.7: 1}),
        Plan("broker", events, kills // 2, seed + 2, broker_restarts=kills // 4),
        Plan("leader", events, kills // 4, seed + 3, broker_restarts=kills // 4, nodes=3),
    ]
    return {plan.name: plan for plan in every}


def main(arguments: Sequence[str]) -> int:
    """Play scenarios, write the report, and return 0 when every promise was kept."""
    options = _parse(arguments)
    short_code = _run_short(options.json.parent / SHORT) if options.short else 0
    if not options.no_long:
        try:
            _run_long(options)
        except ServiceMissing as error:
            sys.stderr.write(f"chaos: {error}\n")
            return 69
    if options.report is not None:
        _write_report(options)
    return short_code


def _run_long(options: argparse.Namespace) -> None:
    print(f"seed {options.seed} (--seed {options.seed} plays the same faults again)", flush=True)
    logs = options.json.parent / "logs"
    turns = [
        plans(options.events, options.kills, options.seed + 100 * turn)
        for turn in range(options.times)
    ]
    outcomes = [
        run_alone(chosen[name], logs, _teller(name))
        for chosen in turns
        for name in options.scenario or chosen
    ]
    report = [outcome.as_dict() for outcome in outcomes]
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    table, file = as_table(report), options.json.with_suffix(".md")
    file.write_text(table, encoding="utf-8")
    print(f"\n{table}\nwritten to {options.json} and {file}")


def _run_short(junit: Path) -> int:
    """Run the tests of all promises."""
    tests = sorted({test for promise in PROMISES for test in promise.tests})
    # The newer family has no place for what tests measured.
    options = ["-o", "junit_family=xunit1", f"--junit-xml={junit}"]
    command = [sys.executable, "-m", "pytest", "-q", *options, *tests]
    return subprocess.run(command, check=False).returncode


def _write_report(options: argparse.Namespace) -> None:
    report = json.loads(options.json.read_text(encoding="utf-8")) if options.json.exists() else []
    junit = options.json.parent / SHORT
    said = read_junit(junit) if junit.exists() else {}
    write_section(options.report, "promises", as_promises(said, report, in_words()))
    write_section(options.report, "long form", as_table(report))
    print(f"figures of {options.report} are renewed")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Kill workers and brokers while events are answered; nothing may be lost, "
        "repeated or put in another order. Fails with the query ids where something is.",
    )
    add = parser.add_argument
    add("--events", type=int, default=10_000)
    add("--kills", type=int, default=20, help="of the first scenario; the others have a share")
    add("--seed", type=int, default=random.randrange(10_000), help="default: another each time")
    add("--times", type=int, default=1, help="play all of it so often, with other seeds")
    add("--scenario", action="append", choices=list(plans(1, 1, 1)), help="default: all")
    add("--json", type=Path, default=REPORT, help=f"default: {REPORT}")
    add("--short", action="store_true", help="also run the tests of all promises")
    add("--no-long", action="store_true", help="play no scenarios")
    add("--report", type=Path, help="a Markdown file whose figures are to be renewed")
    return parser.parse_args(arguments)


class _teller:  # noqa: N801 - a function with a clock
    def __init__(self, name: str) -> None:
        self._name = name
        self._began_s = time.monotonic()

    def __call__(self, text: str) -> None:
        print(f"[{self._name} {time.monotonic() - self._began_s:6.1f} s] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
