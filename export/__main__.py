"""`python -m export COMMAND`: hands over to the module of the command, and loads no other."""

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence

from engine.errors import EngineError
from export.errors import ExportError

# Each module has `add_parser(subparsers)`, which sets `func`: parsed arguments -> exit code.
# Only the chosen one is imported: another command's libraries would cost seconds.
COMMANDS = {
    "model": ("export.model", "a checkpoint into a verified model bundle"),
    "index": ("export.index", "a corpus into an index bundle"),
    "cascade": ("export.cascade", "a bundle that scores only what cheaper scores do not rule out"),
    "tune": ("export.tune", "the fastest batches for a model on this machine, in its bundle"),
    "evaluate": ("export.evaluate", "how well a bundle ranks a test collection"),
    "push": ("export.push", "a bundle to s3://, gs://, hf:// and the like"),
    "pull": ("export.pull", "a bundle from such an address, checked on arrival"),
    "inspect": ("export.inspect", "what a bundle holds and where it came from"),
}


def parser_for(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser, with the options of the one command that `arguments` name."""
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    for name, (module, line) in COMMANDS.items():
        if name == chosen:
            importlib.import_module(module).add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=line)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 done, 1 said why not, 2 wrong usage, 3 the quantized model ranks too much worse than fp32.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    parsed = parser_for(words).parse_args(words)
    try:
        code: int = parsed.func(parsed)
    except (ExportError, EngineError) as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code if isinstance(error, ExportError) else 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"error: {where}{error.strerror or error}; nothing was written\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing was written\n")
        return 130
    return code


if __name__ == "__main__":
    # Both end in KeyboardInterrupt, so that what was begun is removed. Shells let commands in the
    # background ignore SIGINT, containers stop them with SIGTERM.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
