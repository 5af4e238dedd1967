"""The arguments that the commands of the loop share."""

import argparse
from pathlib import Path


def add_plan(parser: argparse.ArgumentParser, *, needs_run: bool = True) -> None:
    """Declare `--plan`, and `--run` where the command has something to keep."""
    parser.add_argument("--plan", type=Path, required=True, help="the YAML file")
    if needs_run:
        parser.add_argument("--run", type=Path, required=True, help="folder of the run")
