"""Names groups of operators that the engine computes in one go (`engine.kernels`).

Each group becomes a call of a function that the model itself holds, made of the standard operators
that were there. ONNX Runtime takes the engine's kernel where it has one of that name, and else puts
the function's nodes in the call's place (ONNX IR specification, "Functions"). A runtime that reads
no functions needs them taken apart before, as `engine.openvino_graph` does.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import AttributeProto, FunctionProto, NodeProto, TensorProto, helper, numpy_helper

from engine.kernels import ADD_NORM_QUANTIZE, ATTENTION, DOMAIN, GELU_QUANTIZE, PRODUCT
from export.graph_writer import MICROSOFT, OPSET
from export.quantize.editor import copy_of
from export.quantize.sites import Array, array_of, constants_of, count_uses, drop_unused

# A sum of more products of 8 bits may not fit into 32.
MOST_DEPTH = 65_536


def fused(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an int8 graph with calls in place of attention and of what ends in a rounding."""
    changed = copy_of(model)
    groups = list(_View.of(changed).groups())
    if not groups:
        return changed
    calls = {group.replaced: group.call for group in groups}
    dropped = {name for group in groups for name in group.dropped}
    nodes = [calls.get(node.name, node) for node in model.graph.node if node.name not in dropped]
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    changed.graph.initializer.extend(tensor for group in groups for tensor in group.constants)
    used = {call.op_type for call in calls.values()}
    changed.functions.extend(function for function in _functions() if function.name in used)
    changed.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    drop_unused(changed)
    return changed


@dataclass(frozen=True)
class _Group:
    """Nodes by their names: `call` stands where `replaced` was, `dropped` are all others."""

    call: NodeProto
    replaced: str
    dropped: frozenset[str] = frozenset()
    constants: tuple[TensorProto, ...] = ()


@dataclass(frozen=True)
class _Rounding:
    """What rounds `value` to uint8: a QuantizeLinear, and the Mul before it if there is one.

    `factor`, float32 [channels], is what the value is multiplied with before it is rounded.
    """

    value: str
    factor: TensorProto
    zero_point: str
    output: str
    nodes: frozenset[str]


@dataclass(frozen=True)
class _View:
    """A graph by the names of its values."""

    model: onnx.ModelProto
    constants: Mapping[str, TensorProto]
    made_by: Mapping[str, NodeProto]
    readers: Mapping[str, Sequence[NodeProto]]
    uses: Counter[str]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> "_View":
        nodes = model.graph.node
        made_by = {name: node for node in nodes for name in node.output}
        readers: dict[str, list[NodeProto]] = {}
        for node in nodes:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        return cls(model, constants_of(model), made_by, readers, count_uses(model))

    def groups(self) -> Iterator[_Group]:
        """Find what a kernel is for; of several roundings of one sum only the first."""
        found: set[str] = set()
        for node in self.model.graph.node:
            if _is_plain_attention(node):
                yield _attention(node)
            elif self._is_plain_product(node):
                yield _product(node, columns=self.constants[node.input[1]].dims[1])
            elif (group := self._rounded(node)) is not None and group.replaced not in found:
                found.add(group.replaced)
                yield group

    def _rounded(self, node: NodeProto) -> _Group | None:
        """Return the group that ends in this node, if it is a rounding."""
        rounding = self._rounding(node)
        source = None if rounding is None else self.made_by.get(rounding.value)
        if rounding is None or source is None:
            return None
        if source.op_type == "Gelu":
            alone = self.uses[rounding.value] == 1 and not source.attribute
            return _gelu(source, rounding, replaced=node.name) if alone else None
        added = self._sum_before(source)
        return None if added is None else _norm(added, source, rounding)

    def _rounding(self, node: NodeProto) -> _Rounding | None:
        channels = self._channels_of(node.output[0])
        if node.op_type != "QuantizeLinear" or channels is None or len(node.input) != 3:
            return None
        value, scale, zero_point = node.input
        if not self._is_one(scale, TensorProto.FLOAT) or not self._is_one(
            zero_point, TensorProto.UINT8
        ):
            return None
        factor: Array = np.reciprocal(array_of(self.constants[scale]))
        nodes = {node.name}
        before = self.made_by.get(value)
        if before is not None and before.op_type == "Mul" and before.input[1] in self.constants:
            if self.uses[value] != 1:
                return None
            value = before.input[0]
            factor = array_of(self.constants[before.input[1]]) * factor
            nodes.add(before.name)
        if factor.ndim > 1 or factor.size not in {1, channels}:
            return None
        tensor = numpy_helper.from_array(
            np.ascontiguousarray(np.broadcast_to(factor, (channels,)), dtype=np.float32),
            f"{node.output[0]}/factor",
        )
        return _Rounding(value, tensor, zero_point, node.output[0], frozenset(nodes))

    def _is_plain_product(self, node: NodeProto) -> bool:
        """Tell whether a product is one of int8 weights [depth, columns] that the kernel takes."""
        if node.op_type != "MatMulIntegerToFloat" or len(node.input) < 5:
            return False
        given: list[str] = [*node.input, "", ""][1:7]
        weights, step, weight_step, zero_point, weight_zero, bias = given
        tensor = self.constants.get(weights)
        if tensor is None or tensor.data_type != TensorProto.INT8 or len(tensor.dims) != 2:
            return False
        depth, columns = tensor.dims
        a_column_each = [weight_step, bias] if bias else [weight_step]
        return (
            depth <= MOST_DEPTH
            and self._is_one(step, TensorProto.FLOAT)
            and self._is_one(zero_point, TensorProto.UINT8)
            and not weight_zero
            and all(name in self.constants for name in a_column_each)
            and all(list(self.constants[name].dims) == [columns] for name in a_column_each)
        )

    def _is_one(self, name: str, kind: int) -> bool:
        """Tell whether a value is a constant with one element of a type."""
        tensor = self.constants.get(name)
        return tensor is not None and tensor.data_type == kind and int(np.prod(tensor.dims)) == 1

    def _channels_of(self, rounded: str) -> int | None:
        """Return the channels of what only products read, which say how many there are."""
        readers = self.readers.get(rounded, [])
        products = [node for node in readers if node.op_type == "MatMulIntegerToFloat"]
        if not products or len(products) != self.uses[rounded]:
            return None
        weights = self.constants.get(products[0].input[1])
        return int(weights.dims[0]) if weights is not None and len(weights.dims) == 2 else None

    def _sum_before(self, node: NodeProto) -> NodeProto | None:
        """Return the sum of two computed values that only `node`, a layer normalisation, reads."""
        settings = {item.name: item for item in node.attribute}
        plain = len(node.input) == 3 and all(node.input) and len(node.output) == 1
        if node.op_type != "LayerNormalization" or not plain or "epsilon" not in settings:
            return None
        if "axis" in settings and settings["axis"].i != -1:
            return None
        before = self.made_by.get(node.input[0])
        if before is None or before.op_type != "Add" or self.uses[before.output[0]] != 1:
            return None
        return before if all(name in self.made_by for name in before.input) else None


def _is_plain_attention(node: NodeProto) -> bool:
    heads = {item.name: item.i for item in node.attribute}
    return (
        node.op_type == "Attention"
        and not node.domain
        and len(node.input) == 3
        and set(heads) == {"q_num_heads", "kv_num_heads"}
        and heads["q_num_heads"] == heads["kv_num_heads"]
    )


def _attention(node: NodeProto) -> _Group:
    heads = next(item.i for item in node.attribute if item.name == "q_num_heads")
    return _Group(_call(ATTENTION, node.input, node.output, heads=heads), replaced=node.name)


def _product(node: NodeProto, columns: int) -> _Group:
    """Return the call with a bias in any case."""
    bias = numpy_helper.from_array(np.zeros(columns, np.float32), f"{node.output[0]}/bias")
    given = [name for name in node.input[6:] if name]  # behind the weights' zero point
    call = _call(PRODUCT, [*node.input[:5], *(given or [bias.name])], node.output)
    return _Group(call, node.name, constants=() if given else (bias,))


def _gelu(gelu: NodeProto, rounding: _Rounding, replaced: str) -> _Group:
    inputs = [gelu.input[0], rounding.factor.name, rounding.zero_point]
    call = _call(GELU_QUANTIZE, inputs, [rounding.output])
    dropped = (rounding.nodes | {gelu.name}) - {replaced}
    return _Group(call, replaced, dropped, (rounding.factor,))


def _norm(added: NodeProto, norm: NodeProto, rounding: _Rounding) -> _Group:
    inputs = [*added.input, *norm.input[1:], rounding.factor.name, rounding.zero_point]
    epsilon = next(item.f for item in norm.attribute if item.name == "epsilon")
    call = _call(ADD_NORM_QUANTIZE, inputs, [*norm.output, rounding.output], epsilon=epsilon)
    dropped = rounding.nodes | {added.name}
    return _Group(call, norm.name, dropped, (rounding.factor,))


def _call(
    name: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: int | float
) -> NodeProto:
    node = helper.make_node(name, inputs, outputs, name=outputs[0], domain=DOMAIN)
    node.attribute.extend(helper.make_attribute(*item) for item in attributes.items())
    return node


def _functions() -> list[FunctionProto]:
    """Say in standard operators what the kernels compute."""
    attention = helper.make_node("Attention", ["query", "key", "value"], ["context"])
    for name in ("q_num_heads", "kv_num_heads"):
        attention.attribute.append(_attribute(name, "heads", AttributeProto.INT))
    norm = helper.make_node("LayerNormalization", ["sum", "scale", "bias"], ["output"], axis=-1)
    norm.attribute.append(_attribute("epsilon", "epsilon", AttributeProto.FLOAT))
    return [
        _function(ATTENTION, ["query", "key", "value"], ["context"], [attention], ["heads"]),
        _function(
            PRODUCT,
            ["input", "weights", "input_scale", "scale", "zero_point", "bias"],
            ["output"],
            [
                helper.make_node(
                    "MatMulIntegerToFloat",
                    ["input", "weights", "input_scale", "scale", "zero_point", "", "bias"],
                    ["output"],
                    domain=MICROSOFT,
                )
            ],
        ),
        _function(
            GELU_QUANTIZE,
            ["input", "factor", "zero_point"],
            ["rounded"],
            [helper.make_node("Gelu", ["input"], ["output"]), *_rounding_nodes()],
        ),
        _function(
            ADD_NORM_QUANTIZE,
            ["left", "right", "scale", "bias", "factor", "zero_point"],
            ["output", "rounded"],
            [helper.make_node("Add", ["left", "right"], ["sum"]), norm, *_rounding_nodes()],
            ["epsilon"],
        ),
    ]


def _rounding_nodes() -> list[NodeProto]:
    return [
        helper.make_node("Mul", ["output", "factor"], ["scaled"]),
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("QuantizeLinear", ["scaled", "one", "zero_point"], ["rounded"]),
    ]


def _function(
    name: str,
    inputs: list[str],
    outputs: list[str],
    nodes: list[NodeProto],
    attributes: list[str] | None = None,
) -> FunctionProto:
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_function(DOMAIN, name, inputs, outputs, nodes, opsets, attributes or [])


def _attribute(name: str, of: str, kind: AttributeProto.AttributeType) -> AttributeProto:
    """Return an attribute whose value is that of the function's attribute `of`."""
    return AttributeProto(name=name, ref_attr_name=of, type=kind)
