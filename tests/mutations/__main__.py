"""Take each promise out of a copy of the code; the tests must notice: `make mutations`."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutations.cases import MUTATIONS, Mutation

REPOSITORY = Path(__file__).resolve().parents[2]
REPORT = Path("build/mutations.json")
FOLDERS = ("bench", "demo", "engine", "export", "schemas", "tests", "training", "worker")
FILES = ("pyproject.toml",)
# What pytest says when tests ran and some of them failed; others mean that nothing was tested.
SOME_FAILED = 1
LIMIT_S = 120


def main() -> int:
    """Try all mutations, write the report, and return 1 where one was not noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--json", type=Path, default=REPORT, help=f"default: {REPORT}")
    parser.add_argument("--only", metavar="TEXT", help="those whose name has this text")
    chosen = parser.parse_args()
    found = []
    for mutation in MUTATIONS:
        if chosen.only is None or chosen.only in mutation.name:
            noticed = try_out(mutation)
            found.append({"mutation": mutation.name, "file": mutation.file, "noticed_by": noticed})
            print(f"{'noticed' if noticed else 'NOT NOTICED':12} {mutation.name}", flush=True)
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    unnoticed = [one for one in found if not one["noticed_by"]]
    print(f"{len(found)} mutations, {len(found) - len(unnoticed)} noticed")
    return 1 if unnoticed else 0


def try_out(mutation: Mutation) -> list[str]:
    """Return which tests failed on the mutated code."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for folder in FOLDERS:
            shutil.copytree(
                REPOSITORY / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__")
            )
        for file in FILES:
            shutil.copy(REPOSITORY / file, copy / file)
        (copy / "build").mkdir()
        (copy / "build" / "kafka").symlink_to(REPOSITORY / "build" / "kafka")
        mutate(copy, mutation)
        return failed_tests(copy, mutation)


def mutate(folder: Path, mutation: Mutation) -> None:
    """Change the file; raises ValueError where the text is not there exactly once."""
    file = folder / mutation.file
    before = file.read_text(encoding="utf-8")
    if before.count(mutation.old) != 1:
        raise ValueError(f"{mutation.name}: {mutation.file} has changed: renew the mutation")
    file.write_text(before.replace(mutation.old, mutation.new), encoding="utf-8")


def failed_tests(folder: Path, mutation: Mutation) -> list[str]:
    """Run the tests of a mutation until one fails, or hangs."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-rf"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    try:
        done = subprocess.run(
            [*command, *mutation.tests],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ["they did not end"]
    lines = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    if done.returncode not in (0, SOME_FAILED):
        raise RuntimeError(f"{mutation.name}: nothing was tested: {done.stdout}{done.stderr}")
    return [line.removeprefix("FAILED ").split(" - ")[0] for line in lines]


if __name__ == "__main__":
    sys.exit(main())
