"""Measures what flows into each matrix product, channel by channel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engine.batches import plan_batches
from engine.pairs import EncodedPair
from export.quantize.editor import copy_of
from export.quantize.sites import Array, Site, constants_of
from export.scoring import Workbench, outputs_of


@dataclass(frozen=True)
class ChannelRange:
    """The lowest and highest value of each channel, float32 [channels] both."""

    low: Array
    high: Array

    @property
    def magnitude(self) -> Array:
        """The largest absolute value of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


Ranges = Mapping[str, ChannelRange]


def measure(
    model: onnx.ModelProto, sites: Sequence[Site], pairs: Sequence[EncodedPair], bench: Workbench
) -> Ranges:
    """Run the fp32 graph over pairs and return the range of every site's input, by its name."""
    graph = bench.open(_observed(model, sites))
    found: dict[str, ChannelRange] = {}
    for batch in plan_batches([len(pair.ids) for pair in pairs]):
        values = outputs_of(graph, [pairs[position] for position in batch])
        for number, site in enumerate(sites):
            low, high = values[f"low_{number}"], values[f"high_{number}"]
            if (known := found.get(site.value)) is not None:
                low, high = np.minimum(known.low, low), np.maximum(known.high, high)
            found[site.value] = ChannelRange(low, high)
    return found


def _observed(model: onnx.ModelProto, sites: Sequence[Site]) -> onnx.ModelProto:
    """Return the graph with the least and largest value of each channel as further outputs."""
    observed = copy_of(model)
    graph, constants = observed.graph, constants_of(model)
    graph.initializer.append(numpy_helper.from_array(np.asarray([0]), "observed_axis"))
    for number, site in enumerate(sites):
        channels = constants[site.products[0].weight].dims[0]
        shape, rows = f"observed_shape_{number}", f"observed_rows_{number}"
        graph.initializer.append(numpy_helper.from_array(np.asarray([-1, channels]), shape))
        graph.node.append(helper.make_node("Reshape", [site.value, shape], [rows]))
        for operator, name in (("ReduceMin", "low"), ("ReduceMax", "high")):
            output = f"{name}_{number}"
            inputs = [rows, "observed_axis"]
            graph.node.append(helper.make_node(operator, inputs, [output], keepdims=0))
            info = helper.make_tensor_value_info(output, TensorProto.FLOAT, [channels])
            graph.output.append(info)
    return observed
