"""SmoothQuant: moves part of each channel's size from the activations into the weights.

Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language
Models", 2023. Channels that differ much in size share one scale badly; dividing each by
`activation ** alpha / weight ** (1 - alpha)`, and multiplying the weights' rows by it, leaves the
product as it was and makes both easier to quantize.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from export.quantize.ranges import ChannelRange
from export.quantize.sites import Array, Site

LEVELS = 255
_TINY = 1e-5

# What comes out of an attention has channels that are alike, and only loses by smoothing.
_CONTEXTS = {"Attention", "MultiHeadAttention", "Reshape"}


@dataclass(frozen=True)
class Quantization:
    """How the input of a site becomes uint8: `round(value / divisors / scale) + zero_point`.

    `divisors` None means 1.
    """

    scale: np.float32
    zero_point: np.uint8
    divisors: Array | None


def quantization_of(
    site: Site, channels: ChannelRange, weights: Sequence[Array], alpha: float | None
) -> Quantization:
    """Return the quantization for one alpha between 0 and 1; None leaves channels as they are."""
    smooth = alpha is not None and site.producer not in _CONTEXTS
    divisors = divisors_of(channels, weights, alpha) if smooth and alpha is not None else None
    one = np.float32(1) if divisors is None else divisors
    # Covers the range of all channels, and zero, with 256 levels.
    low = min(0.0, float((channels.low / one).min()))
    high = max(_TINY, float((channels.high / one).max()))
    scale = (high - low) / LEVELS
    return Quantization(np.float32(scale), np.uint8(round(-low / scale)), divisors)


def divisors_of(channels: ChannelRange, weights: Sequence[Array], alpha: float) -> Array:
    """Return float32 [channels]; `weights` are [channels, out] each."""
    largest = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0)
    # A channel that happened to be quiet while ranges were measured may yet speak up.
    typical = float(np.median(channels.magnitude))
    activations = np.maximum(channels.magnitude, max(typical, _TINY))
    divisors = activations**alpha / np.maximum(largest, _TINY) ** (1 - alpha)
    return np.asarray(divisors, dtype=np.float32)
