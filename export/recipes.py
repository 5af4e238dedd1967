"""Step 6: the graphs of a precision, the most wanted first; each next one is nearer to fp32."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from engine.graph import Logits
from engine.pairs import EncodedPair
from export.adapters import Fp32Graph
from export.bars import progress
from export.quantize.fp16 import fp16_graph
from export.quantize.fuse import fused
from export.quantize.int4 import int4_products
from export.quantize.int8 import int8_products
from export.quantize.ranges import Ranges, measure
from export.quantize.sensitivity import Quantize, most_sensitive, relative_errors
from export.quantize.sites import Site, find_sites
from export.quantize.tables import Bits, smaller_tables
from export.scoring import Workbench, score_all
from schemas.manifests import Precision

ALPHAS = (None, 0.6, 0.7, 0.8, 0.9)
# Where a recipe falls short: this share of the products, those that suffer most, stays fp32.
SHARES_IN_FP32 = (1 / 8, 1 / 4, 1 / 2)

_SENSITIVITY_PAIRS = 16


@dataclass(frozen=True)
class Candidate:
    """A graph, and how it was made."""

    recipe: str
    model: onnx.ModelProto


@dataclass(frozen=True)
class Kitchen:
    """What recipes are made from: an fp32 graph, and pairs to measure ranges and to compare."""

    fp32: Fp32Graph
    measured: Sequence[EncodedPair]
    compared: Sequence[EncodedPair]
    bench: Workbench

    def candidates(self, precision: Precision) -> Iterator[Candidate]:
        """Give graphs until one is good enough; each is made when it is asked for."""
        if precision == "fp16":
            yield Candidate(f"{self.fp32.recipe}-fp16", fp16_graph(self.fp32.model))
        elif precision == "int8":
            yield from self._int8()
        else:
            yield from self._ladder("blocks-of-4-bit", int4_products, bits=4)

    def _int8(self) -> Iterator[Candidate]:
        sites = find_sites(self.fp32.model)
        with progress("Measuring ranges"):
            ranges = measure(self.fp32.model, sites, self.measured, self.bench)
            expected = score_all(self.bench.open(self.fp32.model), self.compared)
        errors: dict[float | None, float] = {}
        with progress("Choosing the smoothing", total=len(ALPHAS)) as advance:
            for alpha in ALPHAS:
                model = _int8(ranges, alpha)(self.fp32.model, sites, frozenset())
                errors[alpha] = _rms(score_all(self.bench.open(model), self.compared), expected)
                advance(1)
        best = min(errors, key=lambda alpha: errors[alpha])
        name = "static-smoothquant" if best is not None else "static"
        yield from self._ladder(name, _int8(ranges, best), bits=8)

    def _ladder(self, name: str, quantize: Quantize, bits: Bits) -> Iterator[Candidate]:
        """Quantize all products, then all but those that suffer most."""
        model, sites = self.fp32.model, find_sites(self.fp32.model)
        recipe = f"{self.fp32.recipe}-{name}"
        yield Candidate(recipe, fused(smaller_tables(quantize(model, sites, frozenset()), bits)))
        step = max(1, len(self.compared) // _SENSITIVITY_PAIRS)
        with progress("Measuring which products suffer most"):
            errors = relative_errors(model, sites, quantize, self.compared[::step], self.bench)
        for share in SHARES_IN_FP32:
            kept = most_sensitive(errors, share)
            yield Candidate(
                f"{recipe}, {len(kept)} of {len(errors)} products in fp32",
                fused(smaller_tables(quantize(model, sites, kept), bits)),
            )


def _int8(ranges: Ranges, alpha: float | None) -> Quantize:
    def quantize(
        model: onnx.ModelProto, sites: Sequence[Site], keep: frozenset[str]
    ) -> onnx.ModelProto:
        return int8_products(model, sites, ranges, alpha, keep)

    return quantize


def _rms(logits: Logits, expected: Logits) -> float:
    return float(np.sqrt(np.mean((logits - expected) ** 2)))
