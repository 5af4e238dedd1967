"""SmoothQuant: moves part of each channel's size from the activations into the weights.

Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language
Models", 2023. Channels that differ much in size share one scale badly; dividing each by
`activation ** alpha / weight ** (1 - alpha)`, and multiplying the weights' rows by it, leaves the
product as it was and makes both easier to quantize.
"""

from dataclasses import dataclass, replace

import numpy as np

from export.families import Array, Encoder, Layer, Linear
from export.int8.ranges import ChannelRange, Ranges
from export.trimmed import SITES, Site

LEVELS = 255
_TINY = 1e-5


@dataclass(frozen=True)
class Quantization:
    """How the input of a site becomes uint8: `round(value / divisors / scale) + zero_point`.

    `divisors` None means 1.
    """

    scale: np.float32
    zero_point: np.uint8
    divisors: Array | None


@dataclass(frozen=True)
class Smoothed:
    """An encoder whose weights took up the divisors, and the quantization of its sites."""

    encoder: Encoder
    sites: dict[Site, Quantization]


def smooth(encoder: Encoder, ranges: Ranges, alpha: float | None) -> Smoothed:
    """Return the encoder for one alpha between 0 and 1; None leaves all channels as they are."""
    layers, sites = [], {}
    for number, layer in enumerate(encoder.layers):
        smoothed, quantizations = _smooth_layer(number, layer, ranges, alpha)
        layers.append(smoothed)
        sites.update(quantizations)
    return Smoothed(replace(encoder, layers=tuple(layers)), sites)


def _smooth_layer(
    number: int, layer: Layer, ranges: Ranges, alpha: float | None
) -> tuple[Layer, dict[Site, Quantization]]:
    """Smooth all sites but the context: its channels are alike, and only lose by it."""
    inputs = {
        "attention": (layer.query, layer.key, layer.value),
        "feed_forward": (layer.up,),
        "hidden": (layer.down,),
    }
    divisors: dict[str, Array | None] = dict.fromkeys(SITES)
    if alpha is not None:
        for name, linears in inputs.items():
            divisors[name] = _divisors(ranges[number, name], linears, alpha)
    sites = {(number, name): _quantization(ranges[number, name], divisors[name]) for name in SITES}
    return (
        replace(
            layer,
            query=_multiply_rows(layer.query, divisors["attention"]),
            key=_multiply_rows(layer.key, divisors["attention"]),
            value=_multiply_rows(layer.value, divisors["attention"]),
            up=_multiply_rows(layer.up, divisors["feed_forward"]),
            down=_multiply_rows(layer.down, divisors["hidden"]),
        ),
        sites,
    )


def _divisors(channels: ChannelRange, linears: tuple[Linear, ...], alpha: float) -> Array:
    weights = np.max([np.abs(linear.weight).max(axis=1) for linear in linears], axis=0)
    # A channel that happened to be quiet while ranges were measured may yet speak up.
    typical = float(np.median(channels.magnitude))
    activations = np.maximum(channels.magnitude, max(typical, _TINY))
    divisors = activations**alpha / np.maximum(weights, _TINY) ** (1 - alpha)
    return np.asarray(divisors, dtype=np.float32)


def _quantization(channels: ChannelRange, divisors: Array | None) -> Quantization:
    """Cover the range of all channels, and zero, with 256 levels."""
    one = np.float32(1) if divisors is None else divisors
    low = min(0.0, float((channels.low / one).min()))
    high = max(_TINY, float((channels.high / one).max()))
    scale = (high - low) / LEVELS
    return Quantization(np.float32(scale), np.uint8(round(-low / scale)), divisors)


def _multiply_rows(linear: Linear, factors: Array | None) -> Linear:
    if factors is None:
        return linear
    return Linear(linear.weight * factors[:, None], linear.bias)
