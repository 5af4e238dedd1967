"""Half precision for GPUs, by ONNX Runtime's own tool; ids come in and a float32 logit goes out."""

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from export.graph_writer import is_large
from export.quantize.editor import copy_of


def fp16_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph in fp16; the input is as Optimum exports it, in operators that GPUs have."""
    changed: onnx.ModelProto = convert_float_to_float16(
        copy_of(model),
        keep_io_types=True,
        disable_shape_infer=is_large(model),  # which takes one message
    )
    return changed
