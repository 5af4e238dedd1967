"""A test of a mean that may be looked at after every observation.

Somebody bets against "the mean is m", with a capital of 1 that can't be borrowed on. If it is m,
no way of betting is expected to gain, so by Ville's inequality (1939) the capital ever reaches
1/alpha with probability alpha at most: whenever one looks, and however often. A capital like that
is called an e-value; 1 over its largest so far is a p-value that is always valid (Johari et al.,
"Peeking at A/B tests", KDD 2017). All m that nobody got rich against are a confidence sequence.

Here the capital is spread over bets of many sizes on both sides, a mixture as in Robbins' tests
(1970), with the bets for bounded values of Waudby-Smith and Ramdas ("Estimating means of bounded
random variables by betting", JRSS-B 2024). It is exact for any sample size, and asks of the
observations only that they are bounded, and that each has the mean given all before it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, logsumexp  # type: ignore[import-untyped]

Floats = NDArray[np.float64]

# Shares of the capital that are bet: for effects from very large to a thousandth of the range.
SHARES = np.geomspace(0.0005, 0.5, 12)
_STEPS = 40  # of bisection: to a trillionth of the range


@dataclass(frozen=True)
class Verdict:
    """What is known after all observations; `decided_at` is the first at which it was clear."""

    observations: int
    mean: float
    low: float
    high: float
    e_value: float
    p_value: float
    decided_at: int | None


def judge(values: Floats, low: float, high: float, alpha: float) -> Verdict:
    """Return the verdict on "the mean is 0" and the confidence sequence of the mean.

    `values` lie within `low` (< 0) and `high` (> 0), in the order in which they came.
    """
    if len(values) == 0:
        return Verdict(0, 0.0, low, high, 1.0, 1.0, None)
    path = log_capital_path(values, low, high)
    decided = np.flatnonzero(path >= -np.log(alpha))
    best = max(0.0, float(path.max()))
    ends = confidence(values, low, high, alpha)
    return Verdict(
        observations=len(values),
        mean=float(values.mean()),
        low=ends[0],
        high=ends[1],
        e_value=float(np.exp(min(best, 700.0))),
        p_value=float(np.exp(-best)),
        decided_at=int(decided[0]) + 1 if len(decided) else None,
    )


def log_capital_path(values: Floats, low: float, high: float) -> Floats:
    """Return the logarithm of the capital after each value, of bets against "the mean is 0"."""
    gains = np.log1p(values[:, None] * _bets(0.0, low, high)[None, :])
    path: Floats = logsumexp(np.cumsum(gains, axis=0), axis=1) - np.log(2 * len(SHARES))
    return path


def confidence(values: Floats, low: float, high: float, alpha: float) -> tuple[float, float]:
    """Return the ends of the confidence sequence after all values.

    The capital is convex in the mean that is bet against, so what is not refuted is an interval.
    """
    middle = float(np.clip(values.mean(), low + 1e-9, high - 1e-9))

    def refuted(mean: float) -> bool:
        return bool(_log_capital(values, mean, low, high) >= -np.log(alpha))

    ends = []
    for outer in (low, high):
        inside, outside = middle, outer
        for _ in range(_STEPS):
            half = (inside + outside) / 2
            inside, outside = (inside, half) if refuted(half) else (half, outside)
        ends.append(outside)
    return ends[0], ends[1]


def share_mismatch(count: int, total: int, share: float) -> float:
    """Return an e-value against "each of `total` fell into `count` with probability `share`".

    The mixture of all other shares, uniformly. Large means that the assignment is broken.
    """
    log_likelihood = count * np.log(share) + (total - count) * np.log1p(-share)
    log_mixture = betaln(count + 1, total - count + 1)
    return float(np.exp(min(log_mixture - log_likelihood, 700.0)))


def _log_capital(values: Floats, mean: float, low: float, high: float) -> float:
    if not low < mean < high:
        return np.inf
    gains = np.log1p((values[:, None] - mean) * _bets(mean, low, high)[None, :])
    return float(logsumexp(gains.sum(axis=0)) - np.log(2 * len(SHARES)))


def _bets(mean: float, low: float, high: float) -> Floats:
    """Bets on more and on less than `mean`, of which none can cost more than its share."""
    return np.concatenate([SHARES / (mean - low), -SHARES / (high - mean)])
