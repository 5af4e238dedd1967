"""Finds what can be quantized in an fp32 graph: matrix products with constant weights."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, numpy_helper

Array = NDArray[np.float32]

# Smaller ones, such as that of the logit, cost nothing and hurt most.
MIN_ROWS, MIN_COLUMNS = 16, 16


@dataclass(frozen=True)
class Product:
    """`output = value @ weight + bias`; `node` names the MatMul, `add` the bias's node, if any."""

    node: str
    weight: str
    output: str
    bias: str | None = None
    add: str | None = None


@dataclass(frozen=True)
class Site:
    """All products that share one input, and the operator that the input comes from."""

    value: str
    producer: str
    products: tuple[Product, ...]


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a name of its own: that of its first output, which is unique."""
    for node in model.graph.node:
        node.name = node.output[0]


def constants_of(model: onnx.ModelProto) -> dict[str, TensorProto]:
    """Return the graph's constants by name."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def array_of(tensor: TensorProto) -> Array:
    """Return a constant's values."""
    return np.asarray(numpy_helper.to_array(tensor), dtype=np.float32)


def find_sites(model: onnx.ModelProto) -> list[Site]:
    """Return the sites in the order of the graph; nodes must have names."""
    constants, uses = constants_of(model), count_uses(model)
    consumers = {name: node for node in model.graph.node for name in node.input}
    producers = {name: node.op_type for node in model.graph.node for name in node.output}
    found: dict[str, list[Product]] = {}
    for node in model.graph.node:
        if node.op_type == "MatMul" and _is_large(constants.get(node.input[1])):
            product = Product(node.name, node.input[1], node.output[0])
            if uses[node.output[0]] == 1:
                product = _with_bias(product, consumers[node.output[0]], constants)
            found.setdefault(node.input[0], []).append(product)
    return [
        Site(value, producers.get(value, ""), tuple(products)) for value, products in found.items()
    ]


def count_uses(model: onnx.ModelProto) -> Counter[str]:
    """Count how often each value is read, by nodes, by nested graphs, or as an output."""
    uses = Counter(name for node in all_nodes(model.graph) for name in node.input)
    uses.update(value.name for value in model.graph.output)
    return uses


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Give the nodes of a graph and of the graphs within them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from all_nodes(attribute.g)


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove the constants that nothing reads any more."""
    uses = count_uses(model)
    kept = [tensor for tensor in model.graph.initializer if uses[tensor.name]]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _is_large(weight: TensorProto | None) -> bool:
    return (
        weight is not None
        and weight.data_type == TensorProto.FLOAT
        and len(weight.dims) == 2
        and weight.dims[0] >= MIN_ROWS
        and weight.dims[1] >= MIN_COLUMNS
    )


def _with_bias(
    product: Product, consumer: onnx.NodeProto, constants: dict[str, TensorProto]
) -> Product:
    if consumer.op_type != "Add":
        return product
    (bias,) = [name for name in consumer.input if name != product.output] or [""]
    if bias not in constants or len(constants[bias].dims) != 1:
        return product
    return Product(product.node, product.weight, consumer.output[0], bias, consumer.name)
