"""Weights in 4 bits, block by block, by ONNX Runtime's own tool.

Each block of 32 weights of a column has a scale and a zero point. Activations are rounded to int8
at run time, block by block of a row (accuracy level 4), so a row never sees its neighbours.
"""

import logging
from collections.abc import Collection, Sequence
from typing import Any

import onnx

from export.quantize.editor import copy_of
from export.quantize.sites import Site, drop_unused

BLOCK = 32
_INT8_ACTIVATIONS = 4


def int4_products(
    model: onnx.ModelProto, sites: Sequence[Site], keep: Collection[str] = ()
) -> onnx.ModelProto:
    """Return the graph with 4-bit weights in its products, but for the nodes of `keep`."""
    quantizer_of = _import_quantizer()
    chosen = {product.node for site in sites for product in site.products} - set(keep)
    others = [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and node.name not in chosen
    ]
    quantizer = quantizer_of(
        copy_of(model),
        bits=4,
        block_size=BLOCK,
        is_symmetric=False,
        accuracy_level=_INT8_ACTIVATIONS,
        nodes_to_exclude=others,
        op_types_to_quantize=("MatMul",),
    )
    quantizer.process()
    changed: onnx.ModelProto = quantizer.model.model
    drop_unused(changed)
    return changed


def _import_quantizer() -> Any:
    """Import the tool without the log settings that it forces upon the whole program."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    from onnxruntime.quantization.matmul_nbits_quantizer import (  # noqa: PLC0415
        MatMulNBitsQuantizer,
    )

    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("onnxruntime.quantization").setLevel(logging.WARNING)
    return MatMulNBitsQuantizer
