"""The graph of any model, as Optimum exports it: for families that have none made by hand."""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from optimum.exporters.onnx import onnx_export_from_model
from transformers import PreTrainedModel

from export.errors import UnsupportedPrecisionError
from export.graph_writer import is_large
from export.trimmed import OUTPUT

RECIPE = "optimum"

_MASK, _POSITIONS = "attention_mask", "position_ids"


def optimum_graph(model: PreTrainedModel) -> onnx.ModelProto:
    """Return the graph with one output, the raw logit as float32 [batch].

    Raises UnsupportedPrecisionError where Optimum doesn't know the family.
    """
    return with_flat_output(export_task(model, "text-classification"))


def export_task(model: PreTrainedModel, task: str) -> onnx.ModelProto:
    """Return what Optimum exports for a task; raises UnsupportedPrecisionError."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tracing; the graph is verified afterwards
        try:
            onnx_export_from_model(model, folder, task=task, do_validation=False)
        except (ValueError, NotImplementedError, KeyError) as error:
            raise UnsupportedPrecisionError(
                f"models of the family {model.config.model_type!r} can't be exported: "
                f"{str(error).splitlines()[0]}"
            ) from error
        return onnx.load(Path(folder) / "model.onnx")


def simplified(model: onnx.ModelProto, *, mask: bool = False) -> onnx.ModelProto:
    """Return the graph without inputs for mask and positions, and with constants folded.

    Batches hold sequences of one length, so a mask would be all ones. And a graph that takes none
    can't be given padding, on which a score could depend. With `mask` it stays, for devices that
    are slow on many lengths.
    """
    _compute_inputs(model, mask=mask)
    if is_large(model):
        return model  # the runtime does it when it loads the graph
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        # Basic: folds constants, and brings in no operator that only some machines have.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "simple.onnx")
        options.log_severity_level = 3
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        simple = onnx.load(options.optimized_model_filepath)
    _sum_tokens_apart(simple)
    used = {node.domain for node in simple.graph.node} | {""}
    opsets = [opset for opset in simple.opset_import if opset.domain in used]
    del simple.opset_import[:]
    simple.opset_import.extend(opsets)
    return simple


def _sum_tokens_apart(model: onnx.ModelProto) -> None:
    """Make sums over tokens, float [batch, tokens, hidden], products with a row of ones.

    Mean pooling has them. The runtime adds up in another order where the batch has one row, so
    that a pair would score otherwise alone.
    """
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in inferred
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    axes = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        over = axes.get(node.input[1]) if len(node.input) > 1 else None
        if (
            node.op_type == "ReduceSum"
            and ranks.get(node.input[0]) == 3
            and over is not None
            and numpy_helper.to_array(over).tolist() == [1]
        ):
            nodes += _product_with_ones(model, node)
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _product_with_ones(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Return nodes with the output of a ReduceSum over the middle axis."""
    value, result = node.input[0], node.output[0]
    name = f"{result}/ones"
    for what, constant in (
        ("one", np.ones((1, 1, 1), dtype=np.float32)),
        ("front", np.asarray([1, 1], dtype=np.int64)),
        ("axis", np.asarray([1], dtype=np.int64)),
    ):
        model.graph.initializer.append(numpy_helper.from_array(constant, f"{name}/{what}"))
    product = result if helper.get_node_attr_value(node, "keepdims") else f"{name}/product"
    nodes = [
        helper.make_node("Shape", [value], [f"{name}/tokens"], start=1, end=2),
        helper.make_node("Concat", [f"{name}/front", f"{name}/tokens"], [f"{name}/shape"], axis=0),
        helper.make_node("Expand", [f"{name}/one", f"{name}/shape"], [name]),
        helper.make_node("MatMul", [name, value], [product]),
    ]
    if product != result:
        nodes.append(helper.make_node("Squeeze", [product, f"{name}/axis"], [result]))
    return nodes


def with_flat_output(model: onnx.ModelProto) -> onnx.ModelProto:
    """Make [batch, 1] a [batch]."""
    graph = model.graph
    inner = graph.output[0].name
    axes = helper.make_tensor("squeezed_axes", TensorProto.INT64, [1], [1])
    graph.initializer.append(axes)
    graph.node.append(helper.make_node("Squeeze", [inner, axes.name], [OUTPUT]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch"]))
    return model


def _compute_inputs(model: onnx.ModelProto, *, mask: bool) -> None:
    """Compute what a graph takes of masks and positions, from the ids' shape or the mask."""
    graph = model.graph
    computed = {_POSITIONS} if mask else {_MASK, _POSITIONS}
    taken = {value.name for value in graph.input}
    if not taken & computed:
        return
    for name, value in (("mask_one", [1]), ("mask_axis", 1), ("mask_step", 1)):
        constant = numpy_helper.from_array(np.asarray(value, dtype=np.int64), name)
        graph.initializer.append(constant)
    nodes: list[onnx.NodeProto] = []
    if not (mask and _MASK in taken):
        nodes += [
            helper.make_node("Shape", ["input_ids"], ["mask_shape"]),
            helper.make_node("Expand", ["mask_one", "mask_shape"], [_MASK]),
        ]
    if _POSITIONS in taken:
        nodes += [
            helper.make_node("CumSum", [_MASK, "mask_axis"], ["mask_sum"]),
            helper.make_node("Sub", ["mask_sum", "mask_step"], [_POSITIONS]),
        ]
    nodes += list(graph.node)
    inputs = [value for value in graph.input if value.name not in computed]
    del graph.input[:], graph.node[:]
    graph.input.extend(inputs)
    graph.node.extend(nodes)
