"""`python -m schemas write|check|release`: the committed files of the event contract."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from schemas import files
from schemas.published import MAJOR

_DESCRIPTION = "The committed files of the event contract, which are made from the models."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    parser = argparse.ArgumentParser("python -m schemas", description=_DESCRIPTION)
    commands = parser.add_subparsers(required=True)
    for name, run, explanation in (
        ("write", write, "bring schemas/json and schemas/asyncapi.yaml up to date"),
        ("check", check, "fail when they are not, or when the released contract is broken"),
        ("release", release, "freeze the contract as what later changes are compared with"),
    ):
        command = commands.add_parser(name, help=explanation, description=explanation)
        command.set_defaults(run=run)
    run_it: Callable[[], int] = parser.parse_args(arguments).run
    return run_it()


def write() -> int:
    """Write what differs."""
    touched = files.write()
    sys.stdout.write(f"schemas: {len(touched)} files changed{_names(touched)}\n")
    return 0


def check() -> int:
    """Say what is wrong and what to do."""
    if broken := files.breaks():
        return _fail(
            f"the released contract v{MAJOR} is broken: {'; '.join(broken)}. "
            "Undo that, or begin a new major version (docs/events.md, Versions)"
        )
    if stale := files.stale():
        return _fail(f"out of date{_names(stale)}; run `python -m schemas write` and commit")
    return 0


def release() -> int:
    """Freeze the contract, unless it breaks what was released before."""
    if broken := files.breaks():
        return _fail(f"not released, because v{MAJOR} would break: {'; '.join(broken)}")
    files.release()
    sys.stdout.write(f"schemas: released as v{MAJOR}\n")
    return 0


def _names(paths: Sequence[Path]) -> str:
    return ": " + ", ".join(str(path.relative_to(files.FOLDER)) for path in paths) if paths else ""


def _fail(reason: str) -> int:
    sys.stderr.write(f"schemas: {reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
