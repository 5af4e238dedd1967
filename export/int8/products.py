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
        rows, scales = quantize_rows(table)
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
        columns, scales = quantize_columns(linear.weight)
        scale, zero_point = _scale(writer, self.sites[site])
        inputs = [prepared, writer.constant(columns), scale, writer.constant(scales), zero_point]
        if linear.bias is not None:
            inputs += ["", writer.constant(linear.bias)]
        return writer.add("MatMulIntegerToFloat", *inputs, domain=MICROSOFT)


def quantize_rows(table: Array) -> tuple[NDArray[np.int8], Array]:
    """Return int8 [rows, hidden] and the scale of each row, float32 [rows, 1]."""
    largest = np.abs(table).max(axis=1, keepdims=True)
    scales = np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)
    return np.round(table / scales).astype(np.int8), scales


def quantize_columns(weight: Array) -> tuple[NDArray[np.int8], Array]:
    """Return int8 [in, out] and the scale of each column, float32 [out].

    CPUs without VNNI add the products of two neighbouring rows in 16 bits, and cut off what is
    more: 255 * 127 twice. So two neighbours of one sign add up to 128 at most. That costs hardly
    any precision, and a pair scores the same on every CPU.
    """
    padded = np.pad(weight, ((0, len(weight) % 2), (0, 0)))
    pairs = padded.reshape(-1, 2, weight.shape[1])
    sums = np.maximum(pairs.clip(min=0).sum(axis=1), -pairs.clip(max=0).sum(axis=1))
    largest = sums.max(axis=0)
    scales = np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)
    return np.round(weight / scales).astype(np.int8), scales


def _scale(writer: GraphWriter, form: Quantization) -> tuple[str, str]:
    return writer.constant(np.asarray(form.scale)), writer.constant(np.asarray(form.zero_point))
