"""Makes int8 graphs, and compares them: the smoothing that suits a model can only be tried."""

from dataclasses import dataclass

import numpy as np
import onnx

from engine.graph import Logits
from export.families import Encoder
from export.int8.products import Int8Products
from export.int8.ranges import Ranges
from export.int8.smooth import smooth
from export.trimmed import build

RECIPE = "trimmed-static-smoothquant"
ALPHAS = (None, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Trial:
    """A graph, what it scores, and its root mean square error against fp32."""

    alpha: float | None
    model: onnx.ModelProto
    logits: Logits
    rms_error: float

    @classmethod
    def of(
        cls, alpha: float | None, model: onnx.ModelProto, logits: Logits, expected: Logits
    ) -> "Trial":
        """Compare with the logits of fp32."""
        return cls(alpha, model, logits, float(np.sqrt(np.mean((logits - expected) ** 2))))


def int8_graph(encoder: Encoder, ranges: Ranges, alpha: float | None) -> onnx.ModelProto:
    """Return the int8 graph, smoothed by `alpha`."""
    smoothed = smooth(encoder, ranges, alpha)
    return build(smoothed.encoder, Int8Products(smoothed.sites))
