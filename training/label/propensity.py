"""How likely a user looks at each position, estimated from the log alone.

Clicks follow the position-based model: P(click) = propensity(position) * relevance(pair). The
estimator is AllPairs of Agarwal, Zaitsev, Wang, Li, Najork and Joachims, "Estimating Position
Bias without Intrusive Interventions", WSDM 2019: where the same document was shown for the same
query at positions k and k' (by different models, tiers, or an interleaving), its relevance is the
same at both, and so the ratio of its click rates is that of the propensities. For each such pair of
positions the click rates are summed over its documents, and one set of propensities p and one
relevance r per pair of positions are fitted to all of them at once by cross-entropy:

    sum over k != k' of  c(k, k') log(p_k r_kk') + (w(k, k') - c(k, k')) log(1 - p_k r_kk')

with r_kk' = r_k'k. Other than in the paper, a document weighs by n_k n_k' / (n_k + n_k'), with n
its impressions: that leaves the ratio unbiased, and documents that were shown often are less noisy.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped]

from training.plan_data import ClickPlan

Floats = NDArray[np.float64]
Counts = Mapping[int, tuple[int, int]]  # position → impressions, clicks of one pair
_TINY = 1e-4


@dataclass(frozen=True)
class Propensities:
    """`values[k - 1]` belongs to position k; the first is 1. Deeper positions have the last one.

    `estimated` names the positions that the log speaks of; the others follow 1 / position ** eta.
    """

    values: tuple[float, ...]
    estimated: tuple[int, ...]
    eta: float

    def at(self, position: int) -> float:
        """Return the propensity of a position, counted from 1."""
        return self.values[min(position, len(self.values)) - 1]


def propensities(pairs: Iterable[Counts], plan: ClickPlan) -> Propensities:
    """Return propensities of positions 1 to `max_position`, as the plan asks."""
    if plan.propensity == "assume":
        return _filled({1: 1.0}, plan)
    return _filled(estimate(pairs, plan.max_position, plan.min_impressions), plan)


def estimate(pairs: Iterable[Counts], max_position: int, min_impressions: int) -> dict[int, float]:
    """Return position → propensity, 1 at the first, of the positions that can be compared with it.

    A position that is bound to the first by fewer than `min_impressions` of moved documents is
    left out.
    """
    weights, clicks = _tables(pairs, max_position)
    known = _connected(weights, min_impressions)
    if len(known) < 2:
        return {1: 1.0}
    chosen = np.ix_(known, known)
    fitted = _fit(weights[chosen], clicks[chosen])
    return {place + 1: float(p / fitted[0]) for place, p in zip(known, fitted, strict=True)}


def _tables(pairs: Iterable[Counts], size: int) -> tuple[Floats, Floats]:
    """Return w(k, k') and c(k, k'), [size, size]; row k is what was seen at position k."""
    weights, clicks = np.zeros((size, size)), np.zeros((size, size))
    for counts in pairs:
        seen = [(k - 1, n, c) for k, (n, c) in counts.items() if k <= size and n > 0]
        for (a, n_a, c_a), (b, n_b, c_b) in combinations(seen, 2):
            weight = n_a * n_b / (n_a + n_b)
            weights[a, b] += weight
            weights[b, a] += weight
            clicks[a, b] += weight * c_a / n_a
            clicks[b, a] += weight * c_b / n_b
    return weights, clicks


def _connected(weights: Floats, minimum: float) -> list[int]:
    """Return the places that moved documents bind to the first, directly or over others."""
    known, found = {0}, True
    while found:
        found = False
        for place in set(range(len(weights))) - known:
            if weights[place, sorted(known)].sum() >= minimum:
                known.add(place)
                found = True
    return sorted(known)


def _fit(weights: Floats, clicks: Floats) -> Floats:
    """Return p, [positions], up to a common factor."""
    size = len(weights)
    upper = np.triu_indices(size, 1)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        p = parameters[:size]
        r = np.zeros((size, size))
        r[upper] = parameters[size:]
        r += r.T
        rate = np.clip(p[:, None] * r, _TINY**2, 1 - _TINY**2)
        value = -(clicks * np.log(rate) + (weights - clicks) * np.log1p(-rate)).sum()
        slope = -(clicks / rate - (weights - clicks) / (1 - rate))
        slope_r = slope * p[:, None]
        return value, np.concatenate([(slope * r).sum(axis=1), (slope_r + slope_r.T)[upper]])

    start = np.full(size + len(upper[0]), 0.5)
    found: Any = minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(_TINY, 1 - _TINY)] * len(start),
        options={"maxiter": 2000, "maxfun": 20_000, "ftol": 1e-12},
    )
    return np.asarray(found.x[:size], dtype=np.float64)


def _filled(known: Mapping[int, float], plan: ClickPlan) -> Propensities:
    """Give the positions of which the log says nothing the curve of the others, or the plan's."""
    deeper = [k for k in known if k > 1]
    eta = plan.eta
    if deeper:
        places = np.log(deeper)
        drops = -np.log(np.maximum([known[k] for k in deeper], _TINY))
        eta = max(0.0, float(places @ drops / (places @ places)))
    values = tuple(known.get(k, k**-eta) for k in range(1, plan.max_position + 1))
    return Propensities(values, tuple(sorted(known)) if deeper else (), eta)
