"""The bundles that are measured, made by the command that a user would run, and kept."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime as ort

import export
from engine.bundles import Bundle, open_model
from engine.errors import BundleError
from engine.graph import OnnxGraph
from export.bars import progress
from export.checkpoint import default_checkpoint
from export.fp32 import optimum_graph
from export.merge import load_merged
from export.tools import tool_versions
from export.trimmed import OUTPUT
from schemas.manifests import ModelManifest, Precision


class BenchError(Exception):
    """What stops a bench; one line for people."""


def make_model(folder: Path, precision: Precision) -> Bundle[ModelManifest]:
    """Return `folder/model-<precision>`, made anew where export has changed; raises BenchError."""
    out = folder / f"model-{precision}"
    if _is_fresh(out):
        try:
            return open_model(out)
        except BundleError:
            pass  # it is made again
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "export", "model", "--precision", precision, "--out", str(out)]
    ended = subprocess.run(command, check=False, stdout=sys.stderr)
    if ended.returncode != 0:
        raise BenchError(f"no {precision} bundle could be made: see above")
    _stamp(out)
    return open_model(out)


def make_plain(folder: Path, like: Bundle[ModelManifest]) -> OnnxGraph:
    """Return the same model in fp32 as Optimum exports it, which most others start from."""
    file = folder / "model-optimum.onnx"
    if not _is_fresh(file):
        with progress("Exporting the plain fp32 graph"):
            graph = optimum_graph(load_merged(*default_checkpoint()))
        onnx.save(graph, file)
        _stamp(file)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    inputs = tuple(node.name for node in session.get_inputs())
    return OnnxGraph(session, inputs, OUTPUT, like.manifest.pair.token_types)


def _is_fresh(made: Path) -> bool:
    key_file = made.with_name(made.name + ".key")
    return made.exists() and key_file.is_file() and key_file.read_text() == export_key()


def _stamp(made: Path) -> None:
    made.with_name(made.name + ".key").write_text(export_key())


def export_key() -> str:
    """Return a hash of all that a bundle of the default reranker depends on."""
    digest = hashlib.sha256(repr(sorted(tool_versions().items())).encode())
    for file in sorted(Path(export.__path__[0]).rglob("*")):
        if file.suffix in {".py", ".json", ".safetensors"}:
            digest.update(file.read_bytes())
    return digest.hexdigest()
