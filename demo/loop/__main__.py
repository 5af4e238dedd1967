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
from demo.loop.round import Outcome, Round
from demo.loop.setting import Setting, prepare
from demo.loop.start import FRESH, check_start, described
from demo.loop.users import Blind, Knowing, Taste
from demo.loop.world import World, open_world
from demo.report import make_console
from engine.errors import EngineError
from export.errors import ExportError
from training.errors import TrainingError
from training.run_folder import write_json

# Of the questions of a collection that has no part for it.
HELD_OUT_SHARE = 0.5
EPOCHS = 4
MAX_TOKENS = 64
FINE_TUNE = {
    "queries_per_batch": 4,
    "documents_per_query": 8,
    "evaluate_every": 30,
    "patience": 2,
}
# Int8 loses nothing of a head of random weights; a trained one may need some products in fp32,
# which takes a quarter of the speed.
GATE = {"min_speed": 0.6, "speed_pairs": 128}
TASTES: dict[str, Taste] = {"knowing": Knowing(), "blind": Blind()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Play both rounds and return the exit code."""
    parsed = _parser().parse_args(arguments)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr] # in order with stderr
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        outcomes = _play(parsed, make_console())
    except (DemoError, TrainingError, ExportError, EngineError) as error:
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
        help="a collection whose judgements the users know: half of its questions are held out, "
        "or its part `test` where the folder has the parts train, dev and test (default: a small "
        "made-up one, and a small model)",
    )
    parser.add_argument(
        "--start",
        default=FRESH,
        metavar="MODEL",
        help="the model to begin with: `default`, the reranker of this package; `fresh`, its base "
        "with a head that knows nothing; or the folder of a cross-encoder (default: %(default)s)",
    )
    for name, default, text in (
        ("--questions", None, "that users ask, at most, of a collection"),
        ("--sessions", Setting.sessions, "in which each of them is asked"),
        ("--top-k", Setting.top_k, "candidates of a question"),
        ("--max-tokens", MAX_TOKENS, "of a pair: more for texts longer than sentences"),
        ("--epochs", EPOCHS, "of training, at most"),
    ):
        parser.add_argument(
            name, type=_count, default=default, metavar="N", help=f"{text} (default: %(default)s)"
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
    parser.add_argument(
        "--go-on",
        action="store_true",
        help="keep what an earlier call finished: bundles, clicks, and steps with the same inputs",
    )
    parser.add_argument("--seed", type=int, default=7, help="of users and training")
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError
    return count


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
    check_start(parsed.start)
    build = parsed.build_dir / f"{parsed.data.resolve().name}-{Path(parsed.start).name}"
    world = open_world(parsed.data, HELD_OUT_SHARE, parsed.questions, parsed.seed, build / "asked")
    setting = Setting(
        build=build,
        base=parsed.start,
        max_tokens=parsed.max_tokens,
        top_k=parsed.top_k,
        sessions=parsed.sessions,
        seed=parsed.seed,
        train={"seed": parsed.seed, "epochs": parsed.epochs, **FINE_TUNE},
        gate=GATE,
    )
    return world, setting


def _play(parsed: argparse.Namespace, console: Console) -> dict[str, Outcome]:
    began = time.monotonic()
    world, setting = _small(parsed) if parsed.data is None else _real(parsed)
    console.print(
        f"[bold]World[/]: {world.name}; users ask {len(world.asked)} questions, "
        f"{len(world.held_out)} are held out",
        soft_wrap=True,
    )
    console.print(f"[bold]Model at first[/]: {described(setting.base)}", soft_wrap=True)
    bundles = prepare(setting, world)
    outcomes = {}
    for name, taste in TASTES.items():
        console.print(f"\n[bold]Round[/]: {name} users")
        folder = setting.build / name
        outcomes[name] = Round(setting, world, bundles, folder, console, parsed.go_on).play(taste)
    seconds = time.monotonic() - began
    console.print()
    console.print(summary(outcomes))
    console.print(f"{seconds:,.0f} s in all" + (", but for what was there" * parsed.go_on))
    write_json(
        parsed.json or parsed.build_dir / "loop.json", as_json(setting, world, outcomes, seconds)
    )
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
