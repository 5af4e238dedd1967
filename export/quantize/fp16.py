"""Half precision for GPUs, by ONNX Runtime's own tool; ids come in and a float32 logit goes out.

The last product stays fp32, which costs nothing: half a logit's bits would tie what the model tells
apart.
"""

import onnx
from onnx import TensorProto, helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from export.graph_writer import is_large
from export.quantize.editor import copy_of

_PRODUCTS = {"Gemm", "MatMul"}


def fp16_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph in fp16; the input is as Optimum exports it, in operators that GPUs have."""
    head = _head(model)
    changed: onnx.ModelProto = convert_float_to_float16(
        copy_of(model),
        keep_io_types=True,
        disable_shape_infer=is_large(model),  # which takes one message
        node_block_list=head,
    )
    _keep_bits(changed, set(head))
    OnnxModel(changed).topological_sort()  # casts were put behind all others
    return changed


def _head(model: onnx.ModelProto) -> list[str]:
    """Return the names of the last product and what is behind it; none where there is none."""
    makers = {output: node for node in model.graph.node for output in node.output}
    names: list[str] = []
    node = makers.get(model.graph.output[0].name)
    while node is not None:
        names.append(node.name)
        if node.op_type in _PRODUCTS:
            return names
        # Constants have no maker here, and a bias may stand before or behind what it is added to.
        node = next((makers[value] for value in node.input if value in makers), None)
    return []


def _keep_bits(model: onnx.ModelProto, names: set[str]) -> None:
    """Take out the casts to half and back that the tool puts behind each of its fp32 nodes."""
    nodes = model.graph.node
    wide = {value for node in nodes if node.name in names for value in node.output}
    halved = {
        node.output[0]: node.input[0]
        for node in nodes
        if _casts(node, TensorProto.FLOAT16) and node.input[0] in wide
    }
    for node in nodes:
        if _casts(node, TensorProto.FLOAT) and node.input[0] in halved:
            same = helper.make_node("Identity", [halved[node.input[0]]], node.output, node.name)
            node.CopyFrom(same)
    used = {value for node in nodes for value in node.input}
    for node in [node for node in nodes if halved.keys() & set(node.output) - used]:
        nodes.remove(node)


def _casts(node: onnx.NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and bool(helper.get_node_attr_value(node, "to") == kind)
