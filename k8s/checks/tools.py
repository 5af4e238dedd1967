"""The programs that the checks run. What can be built with Go is built once, into build/bin."""

import os
import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = REPOSITORY / "build" / "bin"
GO_PACKAGES = {
    "kustomize": "sigs.k8s.io/kustomize/kustomize/v5@v5.7.1",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0",
}
HINTS = {
    "go": "install Go 1.24 or newer (https://go.dev/dl), which builds kustomize and kubeconform",
    "promtool": "apt-get install prometheus",
}
BUILD_TIMEOUT_S = 900


class ToolMissingError(Exception):
    """A program is not here; the message says how to get it."""


def find(name: str) -> Path:
    """Return the program's path, building it if need be; raises ToolMissingError."""
    if name not in GO_PACKAGES:
        found = shutil.which(name)
        if found is None:
            raise ToolMissingError(f"{name} is not here: {HINTS[name]}")
        return Path(found)
    path = BIN / name
    stamp = BIN / f"{name}.version"
    if path.exists() and stamp.exists() and stamp.read_text() == GO_PACKAGES[name]:
        return path
    _build(name)
    stamp.write_text(GO_PACKAGES[name])
    return path


def run(name: str, *arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with `text` as its standard input; raises ToolMissingError."""
    command = [find(name), *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)  # noqa: S603 - our own


def _build(name: str) -> None:
    go = find("go")
    BIN.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(  # noqa: S603 - our own
        [go, "install", GO_PACKAGES[name]],
        env={**os.environ, "GOBIN": str(BIN), "GOFLAGS": "-mod=mod"},
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_TIMEOUT_S,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ToolMissingError(f"{name} could not be built with Go: {last}")
