"""Half precision everywhere but at the end, where it would tie what the model tells apart."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.quantize.fp16 import fp16_graph

HIDDEN = 16


def graph(bias_first: bool) -> onnx.ModelProto:
    """A table of words, a layer, and a head of one product: [batch, tokens] -> [batch]."""
    chance = np.random.default_rng(1)
    shapes = {"words": (50, HIDDEN), "layer": (HIDDEN, HIDDEN), "head": (HIDDEN, 1), "bias": (1,)}
    constants = [
        numpy_helper.from_array(chance.normal(0, 1, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    constants.append(numpy_helper.from_array(np.asarray(0), "first"))
    constants.append(numpy_helper.from_array(np.asarray([1]), "axis"))
    terms = ["bias", "product"] if bias_first else ["product", "bias"]
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["looked"], "look"),
        helper.make_node("Gather", ["looked", "first"], ["token"], "take", axis=1),
        helper.make_node("MatMul", ["token", "layer"], ["hidden"], "inner"),
        helper.make_node("Tanh", ["hidden"], ["active"], "activate"),
        helper.make_node("MatMul", ["active", "head"], ["product"], "outer"),
        helper.make_node("Add", terms, ["sum"], "add"),
        helper.make_node("Squeeze", ["sum", "axis"], ["logit"], "squeeze"),
    ]
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])
    logit = helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["batch"])
    made = helper.make_graph(nodes, "tiny", [ids], [logit], constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("bias_first", [False, True])
def test_the_last_product_and_the_logit_stay_fp32(bias_first: bool) -> None:
    whole = graph(bias_first)
    half = fp16_graph(whole)
    onnx.checker.check_model(half, full_check=True)
    kinds = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert kinds["head"] == kinds["bias"] == TensorProto.FLOAT
    assert kinds["words"] == kinds["layer"] == TensorProto.FLOAT16
    ids = np.arange(50, dtype=np.int64)[:, None]
    found, expected = (
        ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            ["logit"], {"input_ids": ids}
        )[0]
        for model in (half, whole)
    )
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < 0.02
    assert (found.astype(np.float16) != found).mean() > 0.9  # more bits than a half has


def test_a_graph_without_a_product_is_made_nonetheless() -> None:
    whole = graph(bias_first=False)
    kept = [node for node in whole.graph.node if node.name in {"look", "take"}]
    del whole.graph.node[:]
    whole.graph.node.extend(
        [*kept, helper.make_node("ReduceSum", ["token", "axis"], ["logit"], "sum", keepdims=0)]
    )
    half = fp16_graph(whole)
    (found,) = ort.InferenceSession(
        half.SerializeToString(), providers=["CPUExecutionProvider"]
    ).run(["logit"], {"input_ids": np.asarray([[3], [4]])})
    assert np.isfinite(found).all()
