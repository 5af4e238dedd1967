"""`python -m worker` as users start it."""

import os
import subprocess
import sys
from collections.abc import Mapping

from tests.conftest import REPOSITORY


def run_worker(
    *arguments: str, environment: Mapping[str, str] | None = None, timeout_s: float = 400.0
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, with no settings but those that are given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RERANKER_")}
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        cwd=REPOSITORY,
        env={**clean, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def assert_one_line(done: "subprocess.CompletedProcess[str]", code: int, *words: str) -> None:
    """The command failed with this code, and said why in one line that has these words."""
    assert done.returncode == code, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("kafka-reranker: ")
    for word in words:
        assert word in lines[0]
