"""Writes ONNX graphs node by node; knows nothing of models."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_model

OPSET = 23
IR_VERSION = 11
MICROSOFT = "com.microsoft"

# A protobuf message ends at 2 GiB; larger weights go into a file of their own.
MAX_EMBEDDED_BYTES = 1_500_000_000
EXTERNAL_DATA = "model.onnx.data"


class GraphWriter:
    """Collects nodes and constants. Values are known by name; each operator returns its output."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def constant(self, value: NDArray[np.generic]) -> str:
        """Add a constant and return its name."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def integers(self, *values: int) -> str:
        """Add a constant int64 [values]."""
        return self.constant(np.asarray(values, dtype=np.int64))

    def integer(self, value: int) -> str:
        """Add a constant int64 []."""
        return self.constant(np.asarray(value, dtype=np.int64))

    def add(
        self,
        operator: str,
        *inputs: str,
        domain: str = "",
        **attributes: int | float | str | Sequence[int],
    ) -> str:
        """Add a node with one output and return the output's name."""
        output = f"{operator}_{len(self._nodes)}"
        node = helper.make_node(operator, list(inputs), [output], output, domain=domain)
        node.attribute.extend(helper.make_attribute(*item) for item in sorted(attributes.items()))
        self._nodes.append(node)
        return output

    def output(self, value: str, name: str, shape: Sequence[str | int]) -> None:
        """Make a float32 value an output of the graph, under a name of its own."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))

    def model(self, inputs: Sequence[str]) -> onnx.ModelProto:
        """Return the model; every input is int64 [batch, tokens]."""
        shape = ["batch", "tokens"]
        infos = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in inputs]
        graph = helper.make_graph(
            self._nodes, "cross-encoder", infos, self._outputs, self._constants
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="kafka-reranker"
        )


def is_large(model: onnx.ModelProto) -> bool:
    """Tell whether a model does not fit into one message."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer) > MAX_EMBEDDED_BYTES


def save(model: onnx.ModelProto, file: Path) -> None:
    """Write a model, with its weights beside it where they are too large for one message."""
    beside = file.with_name(EXTERNAL_DATA)
    beside.unlink(missing_ok=True)  # ONNX would append to it
    if not is_large(model):
        onnx.save_model(model, str(file))
        return
    onnx.save_model(model, str(file), save_as_external_data=True, location=EXTERNAL_DATA)
    # ONNX took the weights out of the model, which is needed further on.
    load_external_data_for_model(model, str(file.parent))
