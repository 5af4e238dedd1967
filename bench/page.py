"""`python -m bench.page`: the tables of the last runs into docs/performance.md.

The page has a pair of comments for each table, `<!-- bench FILE TABLE -->` and `<!-- end -->`; what
stands between them is replaced by the table of `build/bench/FILE.json`, with machine and date.
FILE `targets` is made of all runs; of FILE `plot`, TABLE is an image, copied beside the page.
"""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.engine_bundles import BenchError
from bench.report import Machine, Table, headline, markdown
from bench.targets import target_table

PAGE = Path("docs/performance.md")
OUT = Path("build/bench")
PLACE = re.compile(r"(<!-- bench (\w+) (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main(arguments: Sequence[str]) -> int:
    """Fill the page in and copy the plots; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--out", type=Path, default=OUT, help="where the runs wrote to")
    options = parser.parse_args(arguments)
    try:
        text, missing = filled(options.page.read_text(), options.out)
    except (BenchError, OSError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    options.page.write_text(text)
    for plot in options.out.glob("*.svg"):
        beside = options.page.with_suffix("")
        beside.mkdir(exist_ok=True)
        shutil.copy(plot, beside / plot.name)
    if missing:
        sys.stdout.write(f"left as they were, as there is no run: {', '.join(missing)}\n")
    return 0


def filled(page: str, out: Path) -> tuple[str, list[str]]:
    """Return the page with its tables, and those of which there is no run.

    Raises BenchError where a run has no such table.
    """
    missing: list[str] = []
    found = {file.stem: json.loads(file.read_text()) for file in out.glob("*.json")}
    runs = {stem: run for stem, run in found.items() if "titles" in run}  # older ones have none

    def table(found: re.Match[str]) -> str:
        begin, stem, name, end = found.groups()
        if stem == "targets":
            return f"{begin}{chr(10).join(markdown(target_table(runs))[2:])}{end}"
        if stem == "plot" and (out / f"{name}.svg").is_file():
            return f"{begin}![{name}](performance/{name}.svg)\n{end}"
        if stem not in runs:
            missing.append(f"{stem} {name}")
            return found[0]
        return f"{begin}{_table(runs[stem], stem, name)}\n{end}"

    return PLACE.sub(table, page), missing


def _table(run: dict[str, Any], stem: str, name: str) -> str:
    if name not in run["tables"]:
        raise BenchError(f"{stem}.json has no table {name}: run its bench again")
    lines = markdown(Table(name, run["titles"][name], run["tables"][name], run["notes"][name]))
    measured = f"{run['at'][:10]}, {headline(Machine(**run['machine']))}"
    # The heading is the page's own.
    return "\n".join([*lines[2:], f"Measured on {measured}."])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
