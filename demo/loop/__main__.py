"""`python -m demo.loop`: simulated users teach the reranker; users who click blindly can't.

Without --data a small world is made, whose models begin with random weights. Ends with 0 where the
first round was promoted and the second refused.
"""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from rich.console import Console

from demo.errors import DemoError
from demo.loop.report import as_json, summary
from demo.loop.round import Outcome, Round, Setting, prepare
from demo.loop.users import Blind, Knowing, Taste
from demo.loop.world import World, open_world
from demo.report import make_console
from training.errors import TrainingError
from training.run_folder import write_json

TASTES: dict[str, Taste] = {"knowing": Knowing(), "blind": Blind()}
FINE_TUNE = {
    "method": "lora",
    "epochs": 12,
    "queries_per_batch": 4,
    "documents_per_query": 8,
    "evaluate_every": 12,
    "patience": 4,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Play both rounds and return the exit code."""
    parsed = _parser().parse_args(arguments)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr] # in order with stderr
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        outcomes = _play(parsed, make_console())
    except (DemoError, TrainingError) as error:
        sys.stderr.write(f"loop: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        return 130
    return 0 if outcomes["knowing"].passed and not outcomes["blind"].passed else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo.loop", description="Simulated users teach the reranker by clicking."
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="BEIR_DIR",
        help="a collection whose judgements the users know, and on which the default reranker "
        "learns (default: a small made-up one, and a small model)",
    )
    parser.add_argument(
        "--build-dir",
        type=Path,
        default=Path("build/loop"),
        metavar="DIR",
        help="where bundles and runs are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="where the figures go (default: loop.json in the build folder)",
    )
    parser.add_argument("--seed", type=int, default=7, help="of users and training")
    return parser


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt


def _small(parsed: argparse.Namespace) -> tuple[World, Setting]:
    from demo.loop.small import (  # noqa: PLC0415 - it needs the repository's tests
        HELD_OUT_SHARE,
        small_setting,
        small_world,
    )

    setting = replace(small_setting(parsed.build_dir), seed=parsed.seed)
    world = open_world(small_world(parsed.build_dir), HELD_OUT_SHARE, None, parsed.seed)
    return world, setting


def _real(parsed: argparse.Namespace) -> tuple[World, Setting]:
    world = open_world(parsed.data, held_out_share=0.5, questions=None, seed=parsed.seed)
    train = {"seed": parsed.seed, **FINE_TUNE}
    return world, Setting(build=parsed.build_dir, seed=parsed.seed, train=train)


def _play(parsed: argparse.Namespace, console: Console) -> dict[str, Outcome]:
    began = time.monotonic()
    world, setting = _small(parsed) if parsed.data is None else _real(parsed)
    console.print(
        f"[bold]World[/]: {world.collection.name}; users ask {len(world.asked)} questions, "
        f"{len(world.held_out)} are held out"
    )
    made = prepare(setting, world)
    outcomes = {}
    for name, taste in TASTES.items():
        console.print(f"\n[bold]Round[/]: {name} users")
        outcomes[name] = Round(setting, world, made, setting.build / name, console).play(taste)
    seconds = time.monotonic() - began
    console.print()
    console.print(summary(outcomes))
    console.print(f"{seconds:,.0f} s in all")
    write_json(
        parsed.json or setting.build / "loop.json", as_json(setting, world, outcomes, seconds)
    )
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
