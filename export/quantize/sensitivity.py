"""How much each matrix product suffers by being quantized, all others left as they are."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from engine.batches import plan_batches
from engine.pairs import EncodedPair
from export.quantize.editor import copy_of
from export.quantize.sites import Product, Site
from export.scoring import Workbench, outputs_of

# Graph, sites, and the products of these that stay as they are -> graph.
Quantize = Callable[[onnx.ModelProto, Sequence[Site], frozenset[str]], onnx.ModelProto]

_COPY = "/quantized"


def relative_errors(
    model: onnx.ModelProto,
    sites: Sequence[Site],
    quantize: Quantize,
    pairs: Sequence[EncodedPair],
    bench: Workbench,
) -> dict[str, float]:
    """Return for each product, by its node, the error of its output: rms relative to its size.

    One graph holds every product twice, quantized and not, on the same fp32 input.
    """
    products = [product for site in sites for product in site.products]
    twice, copies = _with_copies(model, sites)
    quantized = quantize(twice, copies, frozenset())
    graph = bench.open(_compared(quantized, products))
    errors, sizes = np.zeros(len(products)), np.zeros(len(products))
    for batch in plan_batches([len(pair.ids) for pair in pairs]):
        values = outputs_of(graph, [pairs[position] for position in batch])
        errors += [float(values[f"error_{number}"]) for number in range(len(products))]
        sizes += [float(values[f"size_{number}"]) for number in range(len(products))]
    relative = np.sqrt(errors / np.maximum(sizes, 1e-30))
    return dict(zip((product.node for product in products), relative.tolist(), strict=True))


def most_sensitive(errors: dict[str, float], share: float) -> frozenset[str]:
    """Return the share of products, at least one, that have the largest error."""
    ordered = sorted(errors, key=lambda node: -errors[node])
    return frozenset(ordered[: max(1, round(share * len(ordered)))])


def _with_copies(
    model: onnx.ModelProto, sites: Sequence[Site]
) -> tuple[onnx.ModelProto, list[Site]]:
    """Return the graph with every product of the sites twice, and the copies' sites."""
    twice = copy_of(model)
    copies = []
    wanted = {product.node: site for site in sites for product in site.products}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        nodes.append(node)
        if node.name in wanted:
            copy = NodeProto()
            copy.CopyFrom(node)
            copy.name, copy.output[0] = node.name + _COPY, node.output[0] + _COPY
            nodes.append(copy)
    del twice.graph.node[:]
    twice.graph.node.extend(nodes)
    for site in sites:
        products = tuple(
            Product(product.node + _COPY, product.weight, _raw_output(model, product) + _COPY)
            for product in site.products
        )
        copies.append(Site(site.value, site.producer, products))
    return twice, copies


def _raw_output(model: onnx.ModelProto, product: Product) -> str:
    """Return what the MatMul itself gives, before its bias."""
    return next(str(node.output[0]) for node in model.graph.node if node.name == product.node)


def _compared(model: onnx.ModelProto, products: Sequence[Product]) -> onnx.ModelProto:
    graph = model.graph
    outputs = {node.name: node.output[0] for node in graph.node}
    for number, product in enumerate(products):
        own = outputs[product.node]
        difference = f"difference_{number}"
        graph.node.append(helper.make_node("Sub", [own + _COPY, own], [difference]))
        for value, name in ((difference, f"error_{number}"), (own, f"size_{number}")):
            node = helper.make_node("ReduceSumSquare", [value], [name], keepdims=0)
            graph.node.append(node)
            graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, []))
    return model
