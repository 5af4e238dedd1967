"""The bundles that are measured, made by the command that a user would run, and kept."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import export
from engine.bundles import Bundle, open_model
from engine.errors import BundleError
from export.tools import tool_versions
from schemas.manifests import ModelManifest, Precision


class BenchError(Exception):
    """What stops a bench; one line for people."""


def make_model(folder: Path, precision: Precision) -> Bundle[ModelManifest]:
    """Return `folder/model-<precision>`, made anew where export has changed; raises BenchError."""
    out, key_file = folder / f"model-{precision}", folder / f"model-{precision}.key"
    key = export_key()
    if key_file.is_file() and key_file.read_text() == key:
        try:
            return open_model(out)
        except BundleError:
            pass  # it is made again
    key_file.unlink(missing_ok=True)
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "export", "model", "--precision", precision, "--out", str(out)]
    ended = subprocess.run(command, check=False, stdout=sys.stderr)
    if ended.returncode != 0:
        raise BenchError(f"no {precision} bundle could be made: see above")
    key_file.write_text(key)
    return open_model(out)


def export_key() -> str:
    """Return a hash of all that a bundle of the default reranker depends on."""
    digest = hashlib.sha256(repr(sorted(tool_versions().items())).encode())
    for file in sorted(Path(export.__path__[0]).rglob("*")):
        if file.suffix in {".py", ".json", ".safetensors"}:
            digest.update(file.read_bytes())
    return digest.hexdigest()
