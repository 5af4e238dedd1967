"""Step 8: a quantized graph beside fp32, on judged queries. What falls short is not written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import kendalltau  # type: ignore[import-untyped]

from engine.graph import Logits
from export.errors import VerificationError
from export.evaluation_set import EvaluationSet, JudgedQuery
from export.measures import measure
from schemas.manifests import Measures, Precision, Verification

# What NDCG@10 must reach, relative to fp32.
LEAST_RATIO: dict[Precision, float] = {"fp16": 0.995, "int8": 0.995, "int4": 0.99}
DECIDES = "NDCG@10"


@dataclass(frozen=True)
class Figures:
    """A graph beside fp32: measures of both by name, Kendall's tau-b, and differences of logits."""

    fp32: dict[str, float]
    quantized: dict[str, float]
    kendall_tau: float
    p99_difference: float
    rms_difference: float
    fp32_deviation: float

    @property
    def ratio(self) -> float:
        """NDCG@10 relative to fp32's; 1 where fp32 finds nothing, as then nothing can be lost."""
        return self.quantized[DECIDES] / self.fp32[DECIDES] if self.fp32[DECIDES] > 0 else 1.0


@dataclass(frozen=True)
class Attempt:
    """A recipe that was tried."""

    recipe: str
    figures: Figures
    passed: bool

    def __str__(self) -> str:
        found = self.figures
        return (
            f"{self.recipe}: {DECIDES} {found.quantized[DECIDES]:.4f}, {found.ratio:.2%} of fp32; "
            f"{'passed' if self.passed else 'fell short'}"
        )


def compare(data: EvaluationSet, fp32: Logits, quantized: Logits) -> Figures:
    """Compare logits of `data.pairs`, float32 [pairs] both."""
    differences = np.abs(quantized - fp32)
    return Figures(
        fp32=_measures(data, fp32),
        quantized=_measures(data, quantized),
        kendall_tau=_kendall_tau(data, fp32, quantized),
        p99_difference=float(np.percentile(differences, 99)),
        rms_difference=float(np.sqrt(np.mean(differences**2))),
        fp32_deviation=float(np.std(fp32)),
    )


class GateError(VerificationError):
    """No recipe ranks well enough; `attempts` has the figures of each, in order."""

    exit_code = 3

    def __init__(self, message: str, attempts: tuple[Attempt, ...]) -> None:
        super().__init__(message)
        self.attempts = attempts


def judge(recipe: str, precision: Precision, figures: Figures) -> Attempt:
    """Say whether a recipe is good enough for its precision."""
    return Attempt(recipe, figures, figures.ratio >= LEAST_RATIO[precision])


def refuse(attempts: Sequence[Attempt], precision: Precision, data: EvaluationSet) -> GateError:
    """Return the error to raise where no attempt passed."""
    return GateError(
        f"no {precision} recipe keeps {LEAST_RATIO[precision]:.1%} of fp32's {DECIDES} on "
        f"{data.name}, so nothing was written: give --calibration pairs and --data like those the "
        "model will meet, choose another --precision, or add --force",
        tuple(attempts),
    )


def for_manifest(
    attempts: Sequence[Attempt], chosen: Attempt, precision: Precision, data: EvaluationSet
) -> Verification:
    """Return what the manifest says of the gate."""
    found = chosen.figures
    return Verification(
        fp32=_for_manifest(data, found.fp32),
        quantized=_for_manifest(data, found.quantized),
        kendall_tau=round(found.kendall_tau, 4),
        p99_score_difference=round(found.p99_difference, 4),
        forced=not chosen.passed,
        least_ratio=LEAST_RATIO[precision],
        tried=tuple(str(attempt) for attempt in attempts),
    )


def _for_manifest(data: EvaluationSet, values: dict[str, float]) -> Measures:
    rounded = {name: round(value, 4) for name, value in values.items()}
    return Measures(collection=data.name, queries=len(data.queries), values=rounded)


def _measures(data: EvaluationSet, logits: Logits) -> dict[str, float]:
    judgements, rankings = {}, {}
    for number, (judged, scores) in enumerate(_by_query(data, logits)):
        names = [str(place) for place in range(len(scores))]
        judgements[str(number)] = dict(zip(names, judged.grades, strict=True))
        # Stable: of equal scores the worse document comes first, so that ties cost.
        order = np.argsort(-scores, kind="stable")
        rankings[str(number)] = [names[place] for place in order]
    values = measure(judgements, rankings)
    return {name: values[name] for name in (DECIDES, "MRR@10", "MAP")}


def _kendall_tau(data: EvaluationSet, fp32: Logits, quantized: Logits) -> float:
    """Return the mean over queries of tau-b between both orders.

    Where one side ties all documents tau-b is undefined; it counts as 1 if both do, else as 0.
    """
    taus = []
    both = zip(_by_query(data, fp32), _by_query(data, quantized), strict=True)
    for (_, before), (_, after) in both:
        if np.ptp(before) > 0 and np.ptp(after) > 0:
            taus.append(float(kendalltau(before, after).statistic))
        else:
            taus.append(float(np.ptp(before) == np.ptp(after)))
    return float(np.mean(taus))


def _by_query(data: EvaluationSet, logits: Logits) -> Iterator[tuple[JudgedQuery, Logits]]:
    """Give each query its part of the logits."""
    start = 0
    for judged in data.queries:
        end = start + len(judged.documents)
        yield judged, logits[start:end]
        start = end
