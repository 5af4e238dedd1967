"""Graphs of a few nodes, and whether calls of kernels compute what these did."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engine.graph import session_options
from engine.kernels import DOMAIN
from export.graph_writer import IR_VERSION, MICROSOFT, OPSET
from export.quantize.fuse import MOST_DEPTH, fused
from export.quantize.sites import name_nodes

WIDTH = 32


def calls(model: onnx.ModelProto) -> Counter[str]:
    """How often each kernel is called."""
    return Counter(node.op_type for node in model.graph.node if node.domain == DOMAIN)


def node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    domain = MICROSOFT if kind == "MatMulIntegerToFloat" else ""
    return helper.make_node(kind, inputs, [output], domain=domain, **attributes)


def times(rounded: str, output: str = "product", *more: str, **other: str) -> onnx.NodeProto:
    """A product, of weights and steps that `other` may name, with what may come `more`."""
    names = {"weight": "weight", "step": "step", "weight_step": "weight_step", "zero": "zero"}
    return node("MatMulIntegerToFloat", [rounded, *(names | other).values(), *more], output)


def product(value: str, *, divided: bool = False) -> list[onnx.NodeProto]:
    """Nodes that round a value and multiply it, as `export.quantize.int8` writes them."""
    before = [node("Mul", [value, "by"], f"{value}_divided")] if divided else []
    return [
        *before,
        node("QuantizeLinear", [before[0].output[0] if before else value, "step", "zero"], "q"),
        times("q"),
    ]


def graph(nodes: Sequence[onnx.NodeProto], *outputs: str) -> onnx.ModelProto:
    """A model of float inputs a, b and c [rows, tokens, WIDTH]."""
    chance = np.random.default_rng(1)
    constants = {
        "by": chance.uniform(0.5, 2, WIDTH).astype(np.float32),
        "step": np.float32(0.03),
        "zero": np.uint8(120),
        "weight": chance.integers(-99, 99, (WIDTH, WIDTH)).astype(np.int8),
        "weight_step": np.full(WIDTH, 0.01, np.float32),
        "scale": chance.uniform(0.5, 2, WIDTH).astype(np.float32),
        "bias": chance.normal(size=WIDTH).astype(np.float32),
        "mask": np.zeros((5, 5), np.float32),
        "none": np.zeros(0, np.int64),
        "table": chance.normal(size=(50, WIDTH)).astype(np.float32),
        "row": chance.normal(size=WIDTH).astype(np.float32),
        "places": np.arange(5),
        "weight_zero": np.int8(7),
        "weight_zeros": chance.integers(-9, 9, WIDTH).astype(np.int8),
        "one_step": np.float32(0.01),
        "stack": chance.integers(-99, 99, (1, WIDTH, WIDTH)).astype(np.int8),
        "unsigned": chance.integers(0, 99, (WIDTH, WIDTH)).astype(np.uint8),
        "signed_zero": np.int8(-8),
        "table_scale": chance.uniform(0.5, 2, (5, WIDTH)).astype(np.float32),
        "table_bias": chance.normal(size=(5, WIDTH)).astype(np.float32),
        "as_deep": np.asarray([1, 1, MOST_DEPTH // WIDTH]),
        "deeper": np.asarray([1, 1, MOST_DEPTH // WIDTH + 1]),
        "deep_weight": chance.integers(-9, 9, (MOST_DEPTH, 3)).astype(np.int8),
        "deeper_weight": chance.integers(-9, 9, (MOST_DEPTH + WIDTH, 3)).astype(np.int8),
        "steps": chance.uniform(0.02, 0.04, WIDTH).astype(np.float32),
        "zeros": np.full(WIDTH, 120, np.uint8),
        "five_steps": chance.uniform(0.02, 0.04, 5).astype(np.float32),
        "five_zeros": np.full(5, 120, np.uint8),
        "three_steps": np.full(3, 0.001, np.float32),
    }
    read = {name for each in nodes for name in each.input}
    shape: Sequence[str | int] = ["rows", "tokens", WIDTH]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "graph",
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name in sorted(read & {"a", "b", "c"})
            ],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 3)
                for name in outputs
            ],
            [
                numpy_helper.from_array(np.asarray(value), name)
                for name, value in constants.items()
                if name in read
            ],
        ),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)],
        ir_version=IR_VERSION,
    )
    name_nodes(model)
    return model


def outputs_of(model: onnx.ModelProto, *, kernels: bool) -> list[NDArray[Any]]:
    options = session_options(kernels=kernels)
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {
        each.name: np.random.default_rng(seed).normal(size=(3, 5, WIDTH)).astype(np.float32)
        for seed, each in enumerate(session.get_inputs())
    }
    return list(session.run(None, feeds))


def check_same(model: onnx.ModelProto, *expected: Mapping[str, int]) -> None:
    """Check what is called, one of `expected`, and that it computes the same in any case."""
    changed = fused(model)
    onnx.checker.check_model(changed)
    assert calls(changed) in [Counter(each) for each in expected]
    before = outputs_of(model, kernels=False)
    for kernels in (False, True):
        for old, new in zip(before, outputs_of(changed, kernels=kernels), strict=True):
            # A level more or less of a few values: step * weight * weight_step.
            assert old.shape == new.shape
            assert np.abs(old - new).max() < 2 * 0.03 * 99 * 0.01
            assert np.median(np.abs(old - new)) < 1e-4
            assert old.std() > 0.5


GELU = node("Gelu", ["a"], "gelu")
NORM = node("LayerNormalization", ["sum", "scale", "bias"], "norm", axis=-1, epsilon=1e-5)
COMPUTED = [node("Neg", ["a"], "left"), node("Neg", ["b"], "right")]
SUM = [*COMPUTED, node("Add", ["left", "right"], "sum")]
