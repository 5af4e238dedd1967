"""Models of one call of a kernel, with and without the library."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engine.graph import session_options
from engine.kernels import ADD_NORM_QUANTIZE, ATTENTION, DOMAIN, GELU_QUANTIZE, PRODUCT
from export.graph_writer import IR_VERSION, MICROSOFT, OPSET
from export.quantize.fuse import _functions

Array = NDArray[np.float32]
Exact = NDArray[np.float64]
Feeds = Mapping[str, NDArray[Any]]

OUTPUTS = {
    ATTENTION: {"context": TensorProto.FLOAT},
    GELU_QUANTIZE: {"rounded": TensorProto.UINT8},
    ADD_NORM_QUANTIZE: {"output": TensorProto.FLOAT, "rounded": TensorProto.UINT8},
    PRODUCT: {"output": TensorProto.FLOAT},
}
ATTRIBUTES: Mapping[str, dict[str, float]] = {
    ATTENTION: {"heads": 1},
    GELU_QUANTIZE: {},
    ADD_NORM_QUANTIZE: {"epsilon": 1e-5},
    PRODUCT: {},
}
# What a graph must hold, where all else is asked of whoever runs it.
CONSTANTS = {PRODUCT: ("weights", "input_scale", "scale", "zero_point", "bias")}
needs_kernels = pytest.mark.usefixtures("kernels")


def asked(name: str, feeds: Feeds) -> dict[str, NDArray[Any]]:
    """Those of `feeds` that are no constants of the graph."""
    return {key: value for key, value in feeds.items() if key not in CONSTANTS.get(name, ())}


def call(name: str, feeds: Feeds, **attributes: float) -> Any:
    """A model of one call, whose inputs have the ranks of `feeds`, and any size."""
    inputs = [
        helper.make_tensor_value_info(
            key, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim
        )
        for key, value in asked(name, feeds).items()
    ]
    constants = [
        numpy_helper.from_array(value, key)
        for key, value in feeds.items()
        if key not in asked(name, feeds)
    ]
    outputs = [
        helper.make_tensor_value_info(key, kind, None) for key, kind in OUTPUTS[name].items()
    ]
    node = helper.make_node(name, list(feeds), list(OUTPUTS[name]), domain=DOMAIN)
    for item in (ATTRIBUTES[name] | attributes).items():
        node.attribute.append(helper.make_attribute(*item))
    return helper.make_model(
        helper.make_graph([node], "call", inputs, outputs, constants),
        functions=[function for function in _functions() if function.name == name],
        opset_imports=[
            helper.make_opsetid(domain, version)
            for domain, version in (("", OPSET), (DOMAIN, 1), (MICROSOFT, 1))
        ],
        ir_version=IR_VERSION,
    )


def opened(model: Any, *, kernels: bool = True) -> ort.InferenceSession:
    return ort.InferenceSession(
        model.SerializeToString(),
        session_options(kernels=kernels),
        providers=["CPUExecutionProvider"],
    )


def run(name: str, feeds: Feeds, **attributes: float) -> list[NDArray[Any]]:
    return list(opened(call(name, feeds, **attributes)).run(None, asked(name, feeds)))


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rounded(value: Array, factor: Array, zero_point: int) -> NDArray[np.uint8]:
    levels: NDArray[np.float32] = np.rint(value * factor) + np.float32(zero_point)
    return levels.clip(0, 255).astype(np.uint8)


def norm_feeds(left: Array, right: Array, channels: int) -> dict[str, NDArray[Any]]:
    chance = np.random.default_rng(channels)
    return {
        "left": left,
        "right": right,
        "scale": 1 + 0.2 * normal(channels + 1, channels),
        "bias": 0.2 * normal(channels + 2, channels),
        "factor": chance.uniform(5, 25, channels).astype(np.float32),
        "zero_point": np.asarray(117, np.uint8),
    }


def product_feeds(
    shape: tuple[int, ...], columns: int, *, zero_point: int = 117
) -> dict[str, NDArray[Any]]:
    chance = np.random.default_rng([*shape, columns])
    weights = chance.integers(-127, 127, (shape[-1], columns), endpoint=True)
    return {
        "input": chance.integers(0, 255, shape, endpoint=True).astype(np.uint8),
        "weights": weights.astype(np.int8),
        "input_scale": np.asarray(0.031, np.float32),
        "scale": chance.uniform(0.001, 0.02, columns).astype(np.float32),
        "zero_point": np.asarray(zero_point, np.uint8),
        "bias": normal(columns, columns),
    }
