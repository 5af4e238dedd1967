"""Matrix products of uint8 activations and int8 weights, and a table of words in int8."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from export.families import Array, Linear
from export.graph_writer import MICROSOFT, GraphWriter
from export.int8.smooth import Quantization
from export.trimmed import Site

_LARGEST = 127


@dataclass(frozen=True)
class Int8Products:
    """Static quantization: every scale is a constant, so rows can't influence one another.

    Activations must be uint8: with int8 the runtime has no fast kernel on AVX512-VNNI.
    """

    sites: Mapping[Site, Quantization]

    def words(self, writer: GraphWriter, table: Array, ids: str) -> str:
        """Look up int8 rows and scale each by its own factor."""
        rows, scales = quantize(table, axis=1)
        looked_up = writer.add("Gather", writer.constant(rows), ids)
        floats = writer.add("Cast", looked_up, to=int(TensorProto.FLOAT))
        return writer.add("Mul", floats, writer.add("Gather", writer.constant(scales), ids))

    def prepare(self, writer: GraphWriter, site: Site, value: str) -> str:
        """Divide the channels, then round to uint8."""
        form = self.sites[site]
        if form.divisors is not None:
            value = writer.add("Mul", value, writer.constant(1 / form.divisors))
        return writer.add("QuantizeLinear", value, *_scale(writer, form))

    def multiply(self, writer: GraphWriter, prepared: str, linear: Linear, site: Site) -> str:
        """Multiply by int8 columns, each with its own scale."""
        columns, scales = quantize(linear.weight, axis=0)
        scale, zero_point = _scale(writer, self.sites[site])
        inputs = [prepared, writer.constant(columns), scale, writer.constant(scales[0]), zero_point]
        if linear.bias is not None:
            inputs += ["", writer.constant(linear.bias)]
        return writer.add("MatMulIntegerToFloat", *inputs, domain=MICROSOFT)


def quantize(weights: Array, axis: int) -> tuple[NDArray[np.int8], Array]:
    """Return int8 weights, and the scales along `axis` that their largest values decide."""
    largest = np.abs(weights).max(axis=axis, keepdims=True)
    scales = np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)
    return np.round(weights / scales).astype(np.int8), scales


def _scale(writer: GraphWriter, form: Quantization) -> tuple[str, str]:
    return writer.constant(np.asarray(form.scale)), writer.constant(np.asarray(form.zero_point))
