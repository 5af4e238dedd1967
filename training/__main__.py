"""Command line: `python -m training …`."""

import argparse
import json
import sys
from pathlib import Path

from training.beir import MissingCollectionError
from training.config import RecipeError
from training.sources import MissingSourceError

_DEFAULT_RECIPE = Path(__file__).parent / "recipes" / "default.yaml"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    build = commands.add_parser("build-data", help="make training data from what is installed")
    build.add_argument("--out", type=Path, required=True, help="folder to write groups.jsonl.gz to")
    build.add_argument("--sources", nargs="+", help="only these sources of the recipe")
    build.add_argument(
        "--wordnet-dir",
        type=Path,
        default=Path("/usr/share/wordnet"),
        help="folder with WordNet's data.noun (default: %(default)s)",
    )
    build.add_argument(
        "--factbook-dir",
        type=Path,
        help="folder with the factbook's JSON (default: the installed package's)",
    )

    fit = commands.add_parser("train", help="fine-tune an adapter")
    fit.add_argument("--data", type=Path, required=True, help="what build-data wrote")
    fit.add_argument("--init", type=Path, help="an adapter to go on from (default: a fresh one)")
    fit.add_argument("--out", type=Path, required=True, help="folder for the adapter")

    score = commands.add_parser("evaluate", help="retriever alone against reranked, as JSON")
    score.add_argument("--adapter", type=Path, required=True, help="a PEFT adapter folder")
    score.add_argument(
        "--collections", nargs="+", default=["trecqa/test", "trecqa/dev", "med", "cacm"]
    )
    score.add_argument(
        "--cache",
        type=Path,
        default=Path("build/retrieved"),
        help="where the retriever's lists are kept (default: %(default)s)",
    )
    score.add_argument("--max-length", type=int, default=512, help="tokens per pair")
    score.add_argument("--top-k", type=int, default=100, help="candidates to rerank")

    for command in (build, fit, score):
        command.add_argument(
            "--config",
            type=Path,
            default=_DEFAULT_RECIPE,
            help="the recipe (default: training/recipes/default.yaml)",
        )
        command.add_argument(
            "--base", type=Path, help="base checkpoint (default: all-MiniLM-L6-v2 as installed)"
        )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; user mistakes give one message and exit code 2."""
    args = _parser().parse_args(argv)
    from training import steps  # noqa: PLC0415 - torch takes seconds, --help must not

    run = {
        "build-data": steps.build_data,
        "train": steps.train_adapter,
        "evaluate": steps.evaluate_adapter,
    }[args.command]
    try:
        result = run(args)
    except (RecipeError, MissingSourceError, MissingCollectionError) as e:
        sys.stderr.write(f"error: {e}\n")
        return 2
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
