"""Two rankings of the same queries to figures: means, their difference, and how sure it is."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import ir_measures
import numpy as np
from ir_measures import AP, RR, nDCG
from numpy.typing import NDArray
from scipy.stats import bootstrap, permutation_test  # type: ignore[import-untyped]

from training.gate.heldout import Grades, HeldOut

Values = NDArray[np.float64]
Rankings = Mapping[str, Sequence[str]]

GRADED = {"NDCG@10": nDCG @ 10}
BINARY = {"MRR@10": RR @ 10, "MAP": AP}
MEASURES = (*GRADED, *BINARY)


@dataclass(frozen=True)
class Comparison:
    """One measure: both means, the mean difference, its one-sided p and 95 % interval."""

    current: float
    new: float
    difference: float
    p: float
    low: float
    high: float

    def as_json(self) -> dict[str, Any]:
        """Return rounded figures."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def per_query(held_out: HeldOut, rankings: Rankings) -> dict[str, Values]:
    """Return for each measure its values, float64 [queries], in the order of `held_out.queries`."""
    return _values(held_out.graded, rankings, GRADED, held_out) | _values(
        held_out.binary, rankings, BINARY, held_out
    )


def compare(current: Values, new: Values, resamples: int, seed: int) -> Comparison:
    """Compare the values of the same queries, float64 [queries].

    p is the share of random exchanges of the two values within queries that raise the mean as
    much (Fisher's randomisation test; Smucker et al. 2007 recommend it for retrieval); the
    interval comes from resampling queries.
    """
    difference = new - current
    if len(difference) < 2 or not difference.any():  # nothing to exchange
        mean = float(difference.mean())
        return Comparison(float(current.mean()), float(new.mean()), mean, 1.0, mean, mean)
    test = permutation_test(
        (new, current),
        _mean_difference,
        permutation_type="samples",
        alternative="greater",
        n_resamples=resamples,
        batch=_batch(difference),
        rng=np.random.default_rng(seed),
    )
    interval = _interval(difference, resamples, seed)
    return Comparison(
        current=float(current.mean()),
        new=float(new.mean()),
        difference=float(difference.mean()),
        p=float(test.pvalue),
        low=interval[0],
        high=interval[1],
    )


def _batch(values: Values) -> int:
    """Resamples at a time: all at once would take gigabytes for thousands of queries."""
    return max(1, 1_000_000 // len(values))


def _mean_difference(one: Values, other: Values, axis: int = -1) -> Values:
    found: Values = np.mean(one - other, axis=axis)
    return found


def _interval(difference: Values, resamples: int, seed: int) -> tuple[float, float]:
    found = bootstrap(
        (difference,),
        np.mean,
        method="percentile",
        n_resamples=resamples,
        batch=_batch(difference),
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def _values(
    judgements: Grades, rankings: Rankings, measures: Mapping[str, Any], held_out: HeldOut
) -> dict[str, Values]:
    qrels = [
        ir_measures.Qrel(query_id, doc_id, grade)
        for query_id, grades in judgements.items()
        for doc_id, grade in grades.items()
    ]
    # As in export.measures: the place stands for the score.
    run = [
        ir_measures.ScoredDoc(query_id, doc_id, float(-place))
        for query_id, ranking in rankings.items()
        for place, doc_id in enumerate(ranking)
    ]
    names = {measure: name for name, measure in measures.items()}
    found: dict[str, dict[str, float]] = {name: {} for name in measures}
    for value in ir_measures.iter_calc(list(names), qrels, run):
        found[names[value.measure]][value.query_id] = float(value.value)
    return {
        name: np.asarray([values.get(query_id, 0.0) for query_id in held_out.queries])
        for name, values in found.items()
    }
