"""Versions of the tools that decide what a bundle holds."""

import platform
from importlib.metadata import version

_PACKAGES = ("numpy", "onnx", "onnxruntime", "optimum-onnx", "peft", "torch", "transformers")


def tool_versions() -> dict[str, str]:
    """Return versions by name, Python's among them (built-in calibration pairs come with it)."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
