"""Matrix products of uint8 activations and int8 weights, with constant scales.

Every scale is a constant, so rows can't influence one another. Activations must be uint8: with int8
the runtime has no fast kernel on AVX512-VNNI.
"""

from collections.abc import Collection, Sequence
from functools import partial

import numpy as np
import onnx
from numpy.typing import NDArray

from export.graph_writer import MICROSOFT
from export.quantize.editor import Editor, copy_of, use_microsoft_operators
from export.quantize.ranges import Ranges
from export.quantize.sites import Array, Product, Site, array_of, constants_of, drop_unused
from export.quantize.smooth import Quantization, quantization_of

_LARGEST = 127


def int8_products(
    model: onnx.ModelProto,
    sites: Sequence[Site],
    ranges: Ranges,
    alpha: float | None,
    keep: Collection[str] = (),
) -> onnx.ModelProto:
    """Return the graph with int8 products, but for the nodes of `keep`."""
    changed = copy_of(model)
    editor, constants = Editor(changed, "int8"), constants_of(model)
    replacements: dict[str, partial[None]] = {}
    dropped: set[str] = set()
    for site in sites:
        products = [product for product in site.products if product.node not in keep]
        if not products:
            continue
        weights = [array_of(constants[product.weight]) for product in products]
        form = quantization_of(site, ranges[site.value], weights, alpha)
        writer = _SiteWriter(editor, site.value, form)
        for product, weight in zip(products, weights, strict=True):
            replacements[product.node] = partial(writer.write, product, weight)
            dropped |= {product.add} if product.add else set()
    editor.rebuild(replacements, dropped)
    use_microsoft_operators(changed)
    drop_unused(changed)
    return changed


class _SiteWriter:
    """Adds the products of a site; the first of them also rounds the input, for all."""

    def __init__(self, editor: Editor, value: str, form: Quantization) -> None:
        self._editor = editor
        self._value = value
        self._form = form
        self._rounded: tuple[str, str, str] | None = None

    def write(self, product: Product, weight: Array) -> None:
        """Add one product, under the name that its output had."""
        if self._rounded is None:
            self._rounded = self._round()
        rounded, scale, zero_point = self._rounded
        if self._form.divisors is not None:
            weight = weight * self._form.divisors[:, None]
        columns, scales = quantize_columns(weight)
        constant = self._editor.constant
        inputs = [rounded, constant(columns), scale, constant(scales), zero_point]
        if product.bias is not None:
            inputs += ["", product.bias]
        self._editor.add("MatMulIntegerToFloat", *inputs, output=product.output, domain=MICROSOFT)

    def _round(self) -> tuple[str, str, str]:
        """Divide the channels, round to uint8, and return names: that, scale and zero point."""
        editor, value = self._editor, self._value
        if self._form.divisors is not None:
            value = editor.add("Mul", value, editor.constant(1 / self._form.divisors))
        scale = editor.constant(np.asarray(self._form.scale))
        zero_point = editor.constant(np.asarray(self._form.zero_point))
        return editor.add("QuantizeLinear", value, scale, zero_point), scale, zero_point


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
