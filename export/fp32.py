"""The graph of any model, as Optimum exports it: for families that have none made by hand."""

import tempfile
import warnings
from pathlib import Path

import onnx
from onnx import TensorProto, helper
from optimum.exporters.onnx import onnx_export_from_model
from transformers import PreTrainedModel

from export.errors import UnsupportedPrecisionError
from export.trimmed import OUTPUT

RECIPE = "optimum"


def optimum_graph(model: PreTrainedModel) -> onnx.ModelProto:
    """Return the graph with one output, the raw logit as float32 [batch].

    Raises UnsupportedPrecisionError where Optimum doesn't know the family.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tracing; the graph is verified afterwards
        try:
            onnx_export_from_model(model, folder, task="text-classification", do_validation=False)
        except (ValueError, NotImplementedError, KeyError) as error:
            raise UnsupportedPrecisionError(
                f"models of the family {model.config.model_type!r} can't be exported: "
                f"{str(error).splitlines()[0]}"
            ) from error
        graph = onnx.load(Path(folder) / "model.onnx")
    return _with_flat_output(graph)


def input_names(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the names of the graph's inputs."""
    return tuple(value.name for value in model.graph.input)


def _with_flat_output(model: onnx.ModelProto) -> onnx.ModelProto:
    """Make [batch, 1] a [batch]."""
    graph = model.graph
    inner = graph.output[0].name
    axes = helper.make_tensor("squeezed_axes", TensorProto.INT64, [1], [1])
    graph.initializer.append(axes)
    graph.node.append(helper.make_node("Squeeze", [inner, axes.name], [OUTPUT]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch"]))
    return model
