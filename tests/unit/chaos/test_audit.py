"""`make audit` never says that all is well when nothing was asked."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import audit

WEAK = {"name": "old", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
FINE: dict[str, Any] = {"name": "new", "version": "2", "vulns": []}
UNKNOWN = {"name": "odd", "skip_reason": "not found"}


def done(stdout: str = "", stderr: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.CompletedProcess([], 0, stdout, stderr)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "audit.json"


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
def test_what_was_not_audited_is_no_pass(
    monkeypatch: pytest.MonkeyPatch, report: Path, ci: str, code: int
) -> None:
    monkeypatch.setenv("CI", ci)
    said = done(stderr="requests.exceptions.ConnectionError: no route")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: said)
    assert audit.main(report=report) == code
    assert json.loads(report.read_text())["said"].startswith("SKIPPED, nothing was audited")


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([FINE], 0, "1 packages, 0 with known weaknesses, 0 not looked up"),
        ([FINE, WEAK], 1, "2 packages, 1 with known weaknesses, 0 not looked up"),
        ([FINE, UNKNOWN], 1, "1 packages, 0 with known weaknesses, 1 not looked up"),
    ],
)
def test_what_was_found(
    monkeypatch: pytest.MonkeyPatch,
    report: Path,
    packages: list[dict[str, Any]],
    code: int,
    said: str,
) -> None:
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: done(json.dumps({"dependencies": packages}))
    )
    assert audit.main(report=report) == code
    assert json.loads(report.read_text())["said"] == said
