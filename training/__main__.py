"""Command line: `python -m training …`."""

import argparse
import errno
import importlib
import json
import sys
from dataclasses import dataclass
from typing import Any

from engine.errors import EngineError
from export.errors import ExportError
from training.errors import TrainingError


@dataclass(frozen=True)
class Command:
    """A step: a module, or `module:object`, with `add_arguments(parser)` and `run(args)`.

    `run` returns what is printed as JSON, or None. The module is imported when its command is
    called, as torch takes seconds.
    """

    target: str
    help: str

    def load(self) -> Any:
        """Return the module or object."""
        module, _, name = self.target.partition(":")
        loaded = importlib.import_module(module)
        return getattr(loaded, name) if name else loaded


# One line a step. What a user can mend is raised as a TrainingError.
COMMANDS = {
    "init": Command("training.init_command", "write a commented example plan"),
    "collect": Command("training.collect.command", "topic and files of judgements into Parquet"),
    "annotate": Command("training.annotate.command", "labels by a machine (optional)"),
    "label": Command("training.label.command", "events into labelled pairs, with a report"),
    "train": Command("training.model_commands:train", "fine-tune a cross-encoder on the labels"),
    "gate": Command("training.model_commands:gate", "the new model against the one that serves"),
    "promote": Command("training.model_commands:promote", "let a model that passed serve"),
    "rollback": Command("training.model_commands:rollback", "let the model before serve again"),
    "registry": Command("training.model_commands:registry", "list the models that served"),
    "build-data": Command("training.recipe_commands:build", "default reranker: make its data"),
    "train-recipe": Command("training.recipe_commands:train", "default reranker: fine-tune it"),
    "evaluate": Command("training.recipe_commands:evaluate", "an adapter against the retriever"),
    "small": Command("training.small", "a smaller model for a cascade, taught by a bundle"),
    "fuse": Command("training.fuse", "learn how much the retrieval score counts beside the logit"),
    "ab-report": Command("training.ab.command", "which of two models compared online is better"),
}


def _parse(argv: list[str]) -> tuple[argparse.Namespace, Any]:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    called = next((word for word in argv if not word.startswith("-")), None)
    step: Any = None
    for name, command in COMMANDS.items():
        one = commands.add_parser(name, help=command.help, description=command.help)
        if name == called:
            step = command.load()
            step.add_arguments(one)
    return parser.parse_args(argv), step


def main(argv: list[str] | None = None) -> int:
    """Run one command; user mistakes give one message and exit code 2."""
    args, step = _parse(sys.argv[1:] if argv is None else argv)
    try:
        result = step.run(args)
    except (TrainingError, EngineError, ExportError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on from here")
        return 130
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f" to write {error.filename}" if error.filename else ""
            return _fail(f"no space left on the disk{where}: free some, and run again")
        if error.filename is None:
            raise
        return _fail(f"{error.filename}: {error.strerror}")
    if result is not None:
        sys.stdout.write(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    return 0


def _fail(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
