"""Kernels of our own for ONNX Runtime: what a CPU with AVX-512 VNNI computes in one go.

`export.quantize.fuse` writes calls of them into a bundle's graph, as functions made of standard
operators. Where the library was not built, or the CPU can't run it, ONNX Runtime takes these.
"""

import ctypes
from functools import cache
from pathlib import Path

DOMAIN = "kafka_reranker"
ATTENTION, PRODUCT = "Attention", "QuantizedMatMul"
GELU_QUANTIZE, ADD_NORM_QUANTIZE = "GeluQuantize", "AddNormQuantize"

# Part of the keys of scores that kernels gave, so that old ones are not taken for new ones. Raise
# it whenever a kernel's results change.
KERNEL_SCORES = "kernels-1"

_LIBRARY = Path(__file__).with_name("kernels.so")


@cache
def library() -> Path | None:
    """Return the library for this CPU, or None where there is none."""
    try:
        usable = bool(ctypes.CDLL(str(_LIBRARY)).kernels_usable())
    except OSError:  # not built, or for another system
        return None
    return _LIBRARY if usable else None
