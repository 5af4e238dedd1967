"""`python -m demo`: real questions through Kafka, each list before and after reranking.

Makes the bundles where they are missing, starts a broker and a worker, asks, and shows figures.
"""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from rich.console import Console

from demo.asking import TOP_K, Asking, asking
from demo.bundles import Made, make_all
from demo.corpus import read_texts
from demo.errors import DemoError, RefusedError
from demo.figures import Pass
from demo.questions import ONE_BY_ONE, QUESTIONS
from demo.report import comparison, figures, make_console
from demo.services import Services, services
from demo.worker_process import running_worker
from export.bars import progress

SHOWN_QUESTIONS = 4
FIRST_QUESTION = "is anybody there?"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit code."""
    parsed = _parser().parse_args(arguments)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr] # in order with stderr
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        _run(parsed, make_console())
    except DemoError as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description="Real questions through Kafka, each list before and after reranking.",
    )
    parser.add_argument(
        "--kafka", metavar="HOST:PORT", help="a real Kafka (default: an embedded stand-in)"
    )
    parser.add_argument(
        "--redis", metavar="URL", help="a real Redis, redis://… (default: the worker's memory)"
    )
    parser.add_argument(
        "--build-dir",
        type=Path,
        default=Path("build/demo"),
        metavar="DIR",
        help="where corpus and bundles are kept (default: build/demo)",
    )
    parser.add_argument(
        "--questions",
        type=_count,
        default=len(QUESTIONS),
        metavar="N",
        help=f"how many questions are asked (default: {len(QUESTIONS)})",
    )
    return parser


def _count(word: str) -> int:
    if not word.isdigit() or not 1 <= int(word) <= len(QUESTIONS):
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {len(QUESTIONS)}")
    return int(word)


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt


def _run(parsed: argparse.Namespace, console: Console) -> None:
    made = make_all(parsed.build_dir, console)
    log = parsed.build_dir / "worker.log"
    with services(parsed.kafka, parsed.redis) as running:
        _introduce(running, log, console)
        with (
            running_worker(made, running, log) as worker,
            asking(running, worker.check) as client,
        ):
            _show(client, made, QUESTIONS[: parsed.questions], console)
            if sys.stdin.isatty():
                _converse(client, read_texts(made.corpus), console)
    _say_what_is_next(made, console)


def _introduce(running: Services, log: Path, console: Console) -> None:
    if running.embedded_kafka:
        console.print(
            "[bold]Kafka[/]: the embedded stand-in. It is a mock that keeps nothing and gives no "
            "guarantees;\n       `make demo KAFKA=host:9092` uses a real one."
        )
    else:
        console.print(f"[bold]Kafka[/]: {running.kafka}")
    if running.embedded_redis:
        console.print(
            "[bold]Cache[/]: the worker's memory; `make demo REDIS=redis://host:6379` uses a Redis."
        )
    else:
        console.print("[bold]Cache[/]: the given Redis")
    console.print(f"[bold]Worker[/]: `python -m worker`, log in {log}")


def _show(client: Asking, made: Made, questions: Sequence[str], console: Console) -> None:
    with progress("waiting for the worker to join its group and answer a first question"):
        client.ask([FIRST_QUESTION])
    first = _all_at_once(client, questions, "all at once")
    again = _all_at_once(client, questions, "all at once again")
    single = _one_by_one(client)

    texts = read_texts(made.corpus)
    console.print()
    for answer in first.answers[:SHOWN_QUESTIONS]:
        console.print(comparison(answer, texts))
    console.print(figures([first, again, single]))
    console.print(
        f"Every list ranks {TOP_K} documents. Times go from publishing a question to reading its "
        f"list; of questions that are sent at once, each waits for those before it. "
        f"{_cache_effect(first, again)}"
    )


def _cache_effect(first: Pass, again: Pass) -> str:
    if first.hits:
        return "The cache had scores of an earlier run from the start."
    faster = again.queries_per_s / first.queries_per_s
    return (
        f"The second pass was {faster:,.0f} times as fast: {again.hit_ratio:.0%} of its scores "
        "were in the cache."
    )


def _all_at_once(client: Asking, questions: Sequence[str], name: str) -> Pass:
    with progress(f"asking {len(questions)} questions, {name}", len(questions)) as advance:
        begun_s = time.perf_counter()
        answers = client.ask(questions, advance)
        return Pass(name, answers, time.perf_counter() - begun_s)


def _one_by_one(client: Asking) -> Pass:
    with progress("asking other questions one by one", len(ONE_BY_ONE)) as advance:
        begun_s = time.perf_counter()
        answers = [answer for each in ONE_BY_ONE for answer in client.ask([each], advance)]
        return Pass("others, one by one", answers, time.perf_counter() - begun_s)


def _converse(client: Asking, texts: dict[str, str], console: Console) -> None:
    with suppress(ImportError):
        import readline  # noqa: F401, PLC0415 - makes input() editable
    console.print("\nAsk about Python; an empty line or Ctrl-D ends.")
    while True:
        try:
            question = input("question> ").strip()
        except EOFError:
            console.print()
            return
        if not question:
            return
        try:
            (answer,) = client.ask([question])
        except RefusedError as error:
            console.print(str(error), markup=False)
            continue
        except ValueError:  # longer than an event may be, or bytes that are no text
            console.print("That can't be asked: it is too long, or not text.")
            continue
        console.print(comparison(answer, texts))
        cache = answer.ranked.cache
        pairs = cache.hits + cache.misses
        console.print(
            f"{answer.latency_s * 1000:,.0f} ms, {cache.hits} of {pairs} scores from the cache"
        )


def _say_what_is_next(made: Made, console: Console) -> None:
    console.print(
        f"\nThe bundles stay in {made.model} and {made.index}: with a Kafka of yours,\n"
        f"  RERANKER_MODEL_BUNDLE={made.model} RERANKER_INDEX_BUNDLE={made.index} \\\n"
        "  RERANKER_KAFKA__BOOTSTRAP_SERVERS=host:9092 RERANKER_REDIS__URL=redis://host:6379 \\\n"
        "  python -m worker",
        markup=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    sys.exit(main())
