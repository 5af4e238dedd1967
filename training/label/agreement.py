# ruff: noqa: PLC0415 - these libraries take seconds to load, and few logs need them
"""What several people say of the same pair: one label, and how far they agree.

Measures come from libraries: Cohen's kappa from scikit-learn, Fleiss' from statsmodels,
Krippendorff's alpha from NLTK (with squared differences of labels as its distance).
"""

import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, median
from typing import Any

from training.label.keys import PairKey
from training.plan_data import AgreementPlan

Judged = Mapping[PairKey, Mapping[str, float]]  # pair → annotator → label (0-1)
_DIGITS = 4


@dataclass(frozen=True)
class Verdict:
    """What the annotators of one pair come to. `weight` 0: left out."""

    label: float
    weight: float
    disputed: bool


@dataclass(frozen=True)
class Agreement:
    """Measures; None where they can't be computed. 1 is perfect, 0 is what chance gives.

    `cohen` is weighted by squared differences, for each two annotators, with how many pairs both
    judged. `fleiss` is over the pairs that were judged by the most frequent number of people.
    """

    annotators: dict[str, int]
    shared: int  # pairs that several judged
    cohen: dict[tuple[str, str], tuple[float | None, int]]
    fleiss: float | None
    krippendorff: float | None

    def note(self) -> str | None:
        """Return why nothing can be said, if so."""
        if not self.annotators:
            return None
        if len(self.annotators) == 1:
            return (
                "agreement can't be measured: all judgements are by one annotator, "
                f"{next(iter(self.annotators))!r}. Let a second one judge some of the pairs"
            )
        if self.shared == 0:
            return "agreement can't be measured: no pair was judged by more than one annotator"
        return None


def verdict(labels: Mapping[str, float], plan: AgreementPlan) -> Verdict:
    """Return the label of a pair. An adjudicator's word counts alone and ends the dispute."""
    final = [label for name, label in labels.items() if name in plan.adjudicators]
    if final:
        return Verdict(_consensus(final, plan), 1.0, disputed=False)
    values = list(labels.values())
    if round(max(values) - min(values), _DIGITS) <= plan.max_spread:
        return Verdict(_consensus(values, plan), 1.0, disputed=False)
    weight = {"drop": 0.0, "downweight": plan.disputed_weight, "keep": 1.0}[plan.disputed]
    return Verdict(_consensus(values, plan), weight, disputed=True)


def measure(judged: Judged) -> Agreement:
    """Return how far the annotators agree."""
    annotators = Counter(name for labels in judged.values() for name in labels)
    shared = {pair: labels for pair, labels in judged.items() if len(labels) > 1}
    if not shared:
        return Agreement(dict(sorted(annotators.items())), 0, {}, None, None)
    return Agreement(
        dict(sorted(annotators.items())),
        len(shared),
        _cohen(shared),
        _fleiss(shared),
        _krippendorff(shared),
    )


def _consensus(values: list[float], plan: AgreementPlan) -> float:
    if plan.consensus == "mean":
        return fmean(values)
    if plan.consensus == "median":
        return float(median(values))
    counts = Counter(values)
    most = max(counts.values())
    return min(value for value, count in counts.items() if count == most)


def _grades(judged: Judged) -> dict[float, int]:
    """Return label → its place among all labels that occur."""
    found = {round(label, _DIGITS) for labels in judged.values() for label in labels.values()}
    return {label: place for place, label in enumerate(sorted(found))}


def _cohen(shared: Judged) -> dict[tuple[str, str], tuple[float | None, int]]:
    together: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    grades = _grades(shared)
    for labels in shared.values():
        for one, two in combinations(sorted(labels), 2):
            pair = (grades[round(labels[one], _DIGITS)], grades[round(labels[two], _DIGITS)])
            together[one, two].append(pair)
    found: dict[tuple[str, str], tuple[float | None, int]] = {}
    for names, pairs in sorted(together.items()):
        found[names] = (_cohen_of(pairs, list(grades.values())), len(pairs))
    return found


def _cohen_of(pairs: list[tuple[int, int]], grades: list[int]) -> float | None:
    from sklearn.metrics import cohen_kappa_score

    one, two = zip(*pairs, strict=True)
    if len(set(one) | set(two)) < 2:
        return None  # both always said the same single thing: chance explains it all
    return float(cohen_kappa_score(one, two, labels=grades, weights="quadratic"))


def _fleiss(shared: Judged) -> float | None:
    from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

    sizes = Counter(len(labels) for labels in shared.values())
    size = max(sizes, key=lambda n: (sizes[n], n))
    grades = _grades(shared)
    table = [
        [grades[round(label, _DIGITS)] for label in labels.values()]
        for labels in shared.values()
        if len(labels) == size
    ]
    if len({grade for row in table for grade in row}) < 2:
        return None
    counts, _ = aggregate_raters(table)
    return float(fleiss_kappa(counts, method="fleiss"))


def _krippendorff(shared: Judged) -> float | None:
    from nltk.metrics.agreement import AnnotationTask
    from nltk.metrics.distance import interval_distance

    if len(_grades(shared)) < 2:
        return None
    data: list[tuple[str, Any, float]] = [
        (name, pair, label) for pair, labels in shared.items() for name, label in labels.items()
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return float(AnnotationTask(data=data, distance=interval_distance).alpha())
