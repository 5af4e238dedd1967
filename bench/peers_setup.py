"""What the other rerankers need: an environment of their own, and the same weights."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.engine_bundles import BenchError, export_key
from export.bars import progress
from export.calibration import load_pairs
from export.checkpoint import default_checkpoint
from export.merge import load_merged
from export.pair_template import load_tokenizer

CHILD = Path(__file__).with_name("peers_child.py")
PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "true"}


@dataclass(frozen=True)
class Setting:
    """The environment's interpreter, and the folder that the rerankers load."""

    python: Path
    checkpoint: Path

    def child(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `peers_child.py`; its standard error goes to a file beside the checkpoint."""
        log = self.checkpoint.parent / f"peer-{arguments[0]}.log"
        with log.open("w") as errors:
            return subprocess.Popen(
                # -P: without the folder of the script, whose `profile` is not Python's.
                [str(self.python), "-P", str(CHILD), *arguments, str(self.checkpoint)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **QUIET},
            )


def set_up(folder: Path) -> Setting:
    """Make the environment and the models below `folder`, or keep them; raises BenchError."""
    setting = Setting(_environment(folder / "peers-venv"), folder / "checkpoint")
    stamp, key = folder / "checkpoint.key", export_key()
    if stamp.is_file() and stamp.read_text() == key:
        return setting
    _save_checkpoint(setting.checkpoint)
    with progress("Exporting and quantizing for the others"):
        child = setting.child("prepare")
        child.communicate()
    if child.returncode != 0:
        raise BenchError(f"the others' models could not be made: see {folder}/peer-prepare.log")
    stamp.write_text(key)
    return setting


def _save_checkpoint(folder: Path) -> None:
    """Write the default reranker, adapter merged, as a Hugging Face checkpoint."""
    for made in (*folder.glob("onnx/*"), *folder.glob("openvino/*")):
        made.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, adapter = default_checkpoint()
    load_merged(checkpoint, adapter).save_pretrained(folder)
    load_tokenizer(checkpoint).save_pretrained(folder)
    (folder / "calibration.json").write_text(json.dumps(load_pairs(None).measure))


def peer_packages() -> list[str]:
    """Return what the extra [peers] asks for.

    One environment for all, and not ours: wheels of ONNX Runtime must never be mixed.
    """
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    return [str(requirement) for requirement in extras["peers"]]


def _environment(folder: Path) -> Path:
    packages = peer_packages()
    python, stamp = folder / "bin/python", folder / ".installed"
    if stamp.is_file() and stamp.read_text() == repr(packages):
        return python
    with progress("Installing the others into an environment of their own"):
        _uv("venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder))
        _uv("pip", "install", "--quiet", "--python", str(python), *packages)
    stamp.write_text(repr(packages))
    return python


def _uv(*arguments: str) -> None:
    uv: Sequence[str] = [str(Path(sys.executable).with_name("uv")), *arguments]
    if subprocess.run(uv, check=False, stdout=sys.stderr).returncode != 0:
        raise BenchError(f"`uv {' '.join(arguments[:2])}` failed: see above")
