"""What the tests of all promises said last, and the rows of the table that says so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from tests.chaos.promises import PROMISES


@dataclass(frozen=True)
class Said:
    """What a test said: how many cases of it there were, and what it measured."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    figures: Sequence[str] = field(default_factory=tuple)


def read_junit(file: Path) -> dict[str, Said]:
    """Return what each test said, by its id without parameters, from pytest's `--junit-xml`."""
    found: dict[str, Said] = {}
    for case in ElementTree.parse(file).iter("testcase"):
        path = f"{case.get('classname', '').replace('.', '/')}.py"
        name = f"{path}::{case.get('name', '').split('[')[0]}"
        found[name] = _add(found.get(name, Said()), case)
    return found


def _add(said: Said, case: ElementTree.Element) -> Said:
    failed = case.find("failure") is not None or case.find("error") is not None
    skipped = case.find("skipped") is not None
    figures = [
        str(one.get("value")) for one in case.iter("property") if one.get("name") == "figures"
    ]
    return Said(
        said.passed + (not failed and not skipped),
        said.failed + failed,
        said.skipped + skipped,
        said.seconds + float(case.get("time", "0")),
        (*said.figures, *figures),
    )


def as_rows(said: Mapping[str, Said], long_form: Mapping[str, str]) -> list[list[str]]:
    """Return the table's rows: number, promise, tests, latest figures."""
    return [
        [
            str(promise.number),
            promise.text,
            "<br>".join(f"`{_short(test)}`" for test in promise.tests),
            "<br>".join(
                [
                    *(_figures(said.get(test)) for test in promise.tests),
                    *(long_form[name] for name in promise.scenarios if name in long_form),
                ]
            ),
        ]
        for promise in PROMISES
    ]


def _short(test: str) -> str:
    file, name = test.split("::")
    return f"{Path(file).name}::{name}"


def _figures(said: Said | None) -> str:
    if said is None:
        return "not run"
    cases = said.passed + said.failed + said.skipped
    counts = f"{said.passed} of {cases} passed" if cases > 1 or not said.passed else "passed"
    skipped = f", {said.skipped} skipped" if said.skipped else ""
    figures = "".join(f"; {figure}" for figure in said.figures)
    return f"{counts}{skipped} in {said.seconds:.0f} s{figures}"
