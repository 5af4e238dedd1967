"""Makes what is looked up smaller: the table of words, and other large constants.

Words are looked up as integers and then scaled. Smaller tables, such as that of positions, are
only stored as int8: the runtime turns them back into fp32 when it loads the graph.
"""

from functools import partial
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from export.graph_writer import MICROSOFT
from export.quantize.editor import Editor, copy_of, use_microsoft_operators
from export.quantize.sites import Array, array_of, constants_of, drop_unused

_LARGEST = 127
_BLOCK = 32
# Constants with fewer elements are not worth it.
_MIN_ELEMENTS = 4_096

Bits = Literal[4, 8]


def smaller_tables(model: onnx.ModelProto, bits: Bits) -> onnx.ModelProto:
    """Return the graph with the table of words in 4 or 8 bits, and other tables in 8."""
    changed = copy_of(model)
    editor, constants = Editor(changed, "table"), constants_of(changed)
    reads: dict[str, list[onnx.NodeProto]] = {}
    for node in changed.graph.node:
        for name in node.input:
            reads.setdefault(name, []).append(node)
    replacements: dict[str, partial[None]] = {}
    stored: dict[str, str] = {}
    for name, tensor in constants.items():
        nodes = reads.get(name, [])
        if not _is_table(tensor, nodes):
            continue
        if all(_looks_up_words(node, name) for node in nodes):
            look_up = _look_up_4_bits if bits == 4 and tensor.dims[1] % 2 == 0 else _look_up_8_bits
            for node in nodes:
                replacements[node.name] = partial(look_up, editor, node, array_of(tensor))
        else:
            stored[name] = _store(editor, array_of(tensor))
    editor.rebuild(replacements, set())
    _read_stored(changed, stored)
    use_microsoft_operators(changed)
    drop_unused(changed)
    return changed


def quantize_rows(table: Array) -> tuple[NDArray[np.int8], Array]:
    """Return int8 [rows, hidden] and the scale of each row, float32 [rows, 1]."""
    largest = np.abs(table).max(axis=-1, keepdims=True)
    scales = np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)
    return np.round(table / scales).astype(np.int8), scales


def quantize_blocks(table: Array) -> tuple[NDArray[np.uint8], Array, NDArray[np.uint8]]:
    """Return 4-bit rows in blocks of 32, two elements a byte, low half first.

    uint8 [rows, hidden / 2], and for each block its scale, float32 [rows, blocks], and zero point,
    packed like the rows: uint8 [rows, ceil(blocks / 2)].
    """
    rows, hidden = table.shape
    blocks = -(-hidden // _BLOCK)
    padded = np.pad(table, ((0, 0), (0, blocks * _BLOCK - hidden))).reshape(rows, blocks, _BLOCK)
    low, high = padded.min(axis=2).clip(max=0), padded.max(axis=2).clip(min=0)
    scales = np.where(high > low, (high - low) / 15, 1).astype(np.float32)
    zero_points = np.round(-low / scales).clip(0, 15).astype(np.uint8)
    levels = np.round(padded / scales[..., None]) + zero_points[..., None]
    levels = levels.clip(0, 15).astype(np.uint8).reshape(rows, -1)[:, :hidden]
    return _pack(levels), scales, _pack(zero_points)


def _pack(halves: NDArray[np.uint8]) -> NDArray[np.uint8]:
    even = np.pad(halves, ((0, 0), (0, halves.shape[1] % 2)))
    return np.asarray(even[:, ::2] | (even[:, 1::2] << 4), dtype=np.uint8)


def _is_table(tensor: TensorProto, nodes: list[onnx.NodeProto]) -> bool:
    """Tell whether a constant is large, and no weight of a product (those are done or kept)."""
    products = ("MatMul", "Gemm") if len(tensor.dims) == 2 else ()
    return (
        tensor.data_type == TensorProto.FLOAT
        and len(tensor.dims) >= 2
        and int(np.prod(tensor.dims)) >= _MIN_ELEMENTS
        and bool(nodes)
        and all(node.op_type not in products for node in nodes)
    )


def _looks_up_words(node: onnx.NodeProto, name: str) -> bool:
    return node.op_type == "Gather" and list(node.input) == [name, "input_ids"]


def _look_up_8_bits(editor: Editor, node: onnx.NodeProto, table: Array) -> None:
    rows, scales = quantize_rows(table)
    ids = node.input[1]
    found = editor.add("Gather", editor.constant(rows), ids)
    floats = editor.add("Cast", found, to=int(TensorProto.FLOAT))
    factors = editor.add("Gather", editor.constant(scales), ids)
    editor.add("Mul", floats, factors, output=node.output[0])


def _look_up_4_bits(editor: Editor, node: onnx.NodeProto, table: Array) -> None:
    rows, scales, zero_points = quantize_blocks(table)
    editor.add(
        "GatherBlockQuantized",
        editor.constant(rows),
        node.input[1],
        editor.constant(scales),
        editor.constant(zero_points),
        output=node.output[0],
        domain=MICROSOFT,
        bits=4,
        block_size=_BLOCK,
        gather_axis=0,
        quantize_axis=1,
    )


def _store(editor: Editor, table: Array) -> str:
    """Add the int8 form of a table, in front of everything; return the name of its fp32 form."""
    rows, scales = quantize_rows(table)
    floats = editor.add("Cast", editor.constant(rows), to=int(TensorProto.FLOAT))
    return editor.add("Mul", floats, editor.constant(scales))


def _read_stored(model: onnx.ModelProto, stored: dict[str, str]) -> None:
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name in stored:
                node.input[place] = stored[name]
