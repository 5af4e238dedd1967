"""`RERANKER_DEVICE=cuda` never scores on the CPU in silence."""

import subprocess
import sys
from pathlib import Path

import onnxruntime as ort
import pytest

from engine.providers import CUDA
from tests.unit.tiny_retrieval import write_counting_model


def test_a_worker_without_a_gpu_refuses_cuda(counting_model: Path) -> None:
    if CUDA in ort.get_available_providers():
        pytest.skip("this machine has a GPU build of ONNX Runtime")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "worker",
            "rank",
            f"--model-bundle={counting_model}",
            "--device=cuda",
        ],
        input="",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 78
    assert "RERANKER_DEVICE" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture
def counting_model(tmp_path: Path) -> Path:
    pytest.importorskip("onnx")
    return write_counting_model(tmp_path, "file")
