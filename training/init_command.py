"""`python -m training init`: an example plan to start from."""

import argparse
from pathlib import Path

from training.errors import TrainingError
from training.plan import Plan
from training.plan_example import example
from training.run_folder import written_beside


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--out", type=Path, default=Path("plan.yaml"), help="file to write (default: %(default)s)"
    )
    parser.add_argument("--force", action="store_true", help="write over a file that is there")


def run(args: argparse.Namespace) -> dict[str, str]:
    """Write the example; raises TrainingError where the file is there already."""
    if args.out.exists() and not args.force:
        raise TrainingError(f"{args.out} is there already: choose another --out, or use --force")
    with written_beside(args.out) as beside:
        beside.write_text(example(Plan), encoding="utf-8")
    return {"plan": str(args.out)}
