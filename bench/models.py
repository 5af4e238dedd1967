"""`python -m bench.models`: each family in each precision, and what a precision costs in quality.

Size, speed and independence of the batch on random models of one size, quality on the default
reranker. The table of docs/models.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.model_families import family_table
from bench.model_quality import quality_table
from bench.report import Machine, show, wide_console, write
from export.errors import ExportError
from tests.unit.export.family_checkpoints import FAMILIES

OUT = Path("build/bench")


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write; return the exit code."""
    options = _parser().parse_args(arguments)
    machine = Machine.here()
    try:
        with tempfile.TemporaryDirectory() as folder:
            tables = [
                family_table(Path(folder), options.families, options.rounds),
                *quality_table(Path(folder), options.data),
            ]
    except ExportError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    console = wide_console()
    show(console, machine, tables)
    write(options.out, "models", machine, tables)
    console.print(f"{options.out / 'models.json'} {options.out / 'models.md'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.models", description=__doc__)
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
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder (default: {OUT})")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
