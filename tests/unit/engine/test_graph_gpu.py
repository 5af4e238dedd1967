"""CUDA's libraries are loaded before the first session, and only for a GPU."""

from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from engine.bundles import open_model
from engine.graph import OnnxGraph
from tests.unit.tiny_retrieval import write_counting_model


@pytest.mark.parametrize(
    ("providers", "calls"),
    [
        ([], ["session"]),
        (["CPUExecutionProvider"], ["session"]),
        (["CUDAExecutionProvider", "CPUExecutionProvider"], ["libraries", "session"]),
        (["TensorrtExecutionProvider", "CUDAExecutionProvider"], ["libraries", "session"]),
    ],
)
def test_libraries_come_before_the_session(
    providers: list[str], calls: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_model(write_counting_model(tmp_path, "file"))
    made: list[str] = []
    session: Any = ort.InferenceSession

    def make(*arguments: Any, providers: object, **more: Any) -> Any:
        made.append("session")
        assert more["enable_fallback"] is False
        return session(*arguments, providers=["CPUExecutionProvider"], **more)

    monkeypatch.setattr(ort, "preload_dlls", lambda: made.append("libraries"))
    monkeypatch.setattr(ort, "InferenceSession", make)

    OnnxGraph.open(bundle, [(name, {}) for name in providers])

    assert made == calls


def test_onnx_runtime_has_the_function_that_loads_them() -> None:
    assert callable(ort.preload_dlls)
