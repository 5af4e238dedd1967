"""`python -m bench.models`: each family in each precision, and what a precision costs in quality.

Size, speed and independence of the batch on random models of one size, quality on the default
reranker. `--document docs/models.md` puts the tables there, between the marks.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from bench.engine_bundles import BenchError
from bench.model_families import family_table
from bench.model_quality import quality_table
from bench.report import Machine, headline, markdown, show, wide_console, write
from export.errors import ExportError
from tests.unit.export.family_checkpoints import FAMILIES

OUT = Path("build/bench")
BEGIN, END = "<!-- figures: bench.models -->", "<!-- end of figures -->"


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write; return the exit code."""
    options = _parser().parse_args(arguments)
    families, rounds = (["bert"], 2) if options.quick else (options.families, options.rounds)
    machine = Machine.here()
    try:
        with tempfile.TemporaryDirectory() as folder:
            tables = [family_table(Path(folder), families, rounds)]
            if not options.quick:
                tables += quality_table(Path(folder), options.data)
        if options.document is not None:
            put_into(options.document, [said(machine), "", *chain(*map(markdown, tables))])
    except (ExportError, BenchError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    console = wide_console()
    show(console, machine, tables)
    write(options.out, "models", machine, tables)
    console.print(f"{options.out / 'models.json'} {options.out / 'models.md'}")
    return 0


def said(machine: Machine) -> str:
    """Return where and how the tables were measured."""
    return (
        f"`python -m bench.models`, {time.strftime('%Y-%m-%d', time.gmtime())}: {headline(machine)}"
    )


def put_into(document: Path, lines: Sequence[str]) -> None:
    """Replace what stands between the marks; raises BenchError where there are none."""
    text = document.read_text(encoding="utf-8")
    before, first, rest = text.partition(BEGIN)
    _, last, after = rest.partition(END)
    if not first or not last:
        raise BenchError(f"{document} has no {BEGIN} and {END}")
    body = "\n".join(lines).strip()
    document.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.models", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="BERT alone, few rounds, no quality: half a minute"
    )
    parser.add_argument("--families", nargs="*", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--rounds", type=int, default=7, help="of timing (default: %(default)s)")
    parser.add_argument(
        "--data",
        type=Path,
        nargs="*",
        default=[],
        metavar="BEIR_DIR",
        help="collections to judge the default reranker by, beside the built-in set",
    )
    parser.add_argument(
        "--document", type=Path, metavar="FILE", help="put the tables there, between its marks"
    )
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder (default: {OUT})")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
