"""Changes a graph in place: nodes are replaced where they stand, so their order stays right."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.graph_writer import MICROSOFT


class Editor:
    """Collects new constants, and nodes to put before or in the place of old ones."""

    def __init__(self, model: onnx.ModelProto, prefix: str) -> None:
        self.model = model
        self._prefix = prefix
        self._number = 0
        self._new: list[onnx.NodeProto] = []

    def constant(self, value: NDArray[np.generic]) -> str:
        """Add a constant and return its name."""
        name = self._name("constant")
        tensor = numpy_helper.from_array(np.ascontiguousarray(value), name)
        self.model.graph.initializer.append(tensor)
        return name

    def add(
        self,
        operator: str,
        *inputs: str,
        output: str = "",
        domain: str = "",
        **attributes: int | float | Sequence[int],
    ) -> str:
        """Add a node at the present place and return its output's name."""
        result = output or self._name(operator)
        node = helper.make_node(operator, list(inputs), [result], name=result, domain=domain)
        node.attribute.extend(helper.make_attribute(*item) for item in sorted(attributes.items()))
        self._new.append(node)
        return result

    def rebuild(self, replacements: Mapping[str, object], dropped: set[str]) -> None:
        """Go through the nodes; `replacements` maps a node's name to what adds its successors."""
        for node in list(self.model.graph.node):
            replace = replacements.get(node.name)
            if callable(replace):
                replace()
            elif node.name not in dropped:
                self._new.append(node)
        del self.model.graph.node[:]
        self.model.graph.node.extend(self._new)
        self._new = []

    def _name(self, kind: str) -> str:
        self._number += 1
        return f"{self._prefix}_{kind}_{self._number}"


def use_microsoft_operators(model: onnx.ModelProto) -> None:
    """Declare ONNX Runtime's own operators, once."""
    if all(opset.domain != MICROSOFT for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy that can be changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
