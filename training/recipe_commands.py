"""The commands that make the default reranker from its recipe: data, adapter, figures."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.beir import MissingCollectionError
from training.config import RecipeError
from training.errors import TrainingError
from training.sources import MissingSourceError

_DEFAULT_RECIPE = Path(__file__).parent / "recipes" / "default.yaml"


@dataclass(frozen=True)
class RecipeCommand:
    """A command with the arguments that all three share; `step` is a function of steps.py."""

    step: str
    declare: Callable[[argparse.ArgumentParser], None]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""
        self.declare(parser)
        parser.add_argument(
            "--config",
            type=Path,
            default=_DEFAULT_RECIPE,
            help="the recipe (default: training/recipes/default.yaml)",
        )
        parser.add_argument(
            "--base", type=Path, help="base checkpoint (default: all-MiniLM-L6-v2 as installed)"
        )

    def run(self, args: argparse.Namespace) -> dict[str, Any]:
        """Run the step; raises TrainingError."""
        from training import steps  # noqa: PLC0415 - torch takes seconds, --help must not

        try:
            result: dict[str, Any] = getattr(steps, self.step)(args)
        except (RecipeError, MissingSourceError, MissingCollectionError) as error:
            raise TrainingError(str(error)) from error
        return result


def _declare_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to write groups.jsonl.gz to"
    )
    parser.add_argument("--sources", nargs="+", help="only these sources of the recipe")
    parser.add_argument(
        "--wordnet-dir",
        type=Path,
        default=Path("/usr/share/wordnet"),
        help="folder with WordNet's data.noun (default: %(default)s)",
    )
    parser.add_argument(
        "--factbook-dir",
        type=Path,
        help="folder with the factbook's JSON (default: the installed package's)",
    )


def _declare_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="what build-data wrote")
    parser.add_argument("--init", type=Path, help="an adapter to go on from (default: a fresh one)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the adapter")


def _declare_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--adapter", type=Path, required=True, help="a PEFT adapter folder")
    parser.add_argument(
        "--collections", nargs="+", default=["trecqa/test", "trecqa/dev", "med", "cacm"]
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("build/retrieved"),
        help="where the retriever's lists are kept (default: %(default)s)",
    )
    parser.add_argument("--max-length", type=int, default=512, help="tokens per pair")
    parser.add_argument("--top-k", type=int, default=100, help="candidates to rerank")


build = RecipeCommand("build_data", _declare_build)
train = RecipeCommand("train_adapter", _declare_train)
evaluate = RecipeCommand("evaluate_adapter", _declare_evaluate)
