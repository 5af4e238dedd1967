"""How much a cascade keeps on queries that its cuts were not chosen on.

Of a grid of cuts the cheapest that keeps enough on a few queries is one that had luck with them.
So what counts is not what was kept on them but what is kept, as far as they tell, at least.
"""

from collections.abc import Iterator
from math import ceil, log

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Queries = NDArray[np.intp]

# Draws of as many queries as there are, with replacement, and the share of them that may keep less.
DRAWS = 1_000
LOW = 0.05
FOLDS = 5
SEED = 1
# Of how many queries none must lose anything to tell, as surely as that, that less than a share of
# LOW of all queries does: (1 - LOW) ** 59 < LOW. A bound for shares as small as a cascade may lose
# takes hundreds.
ENOUGH = ceil(log(LOW) / log(1 - LOW))


def at_least(lost: Values, alone: Values) -> Values:
    """Return the share of `alone` that each choice keeps at least: [choices].

    The lower end of a one-sided 95 % interval, by bootstrap over queries. `lost` is [choices,
    queries], `alone` [queries]; where `alone` is 0 nothing can be lost. It sees nothing of what no
    query lost: with a single query that lost nothing it is 1, too. See `unseen_losers`.
    """
    count = len(alone)
    draws = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), size=DRAWS)
    whole = (draws @ alone)[:, None]
    shares = np.zeros((DRAWS, len(lost)))
    np.divide(draws @ lost.T, whole, out=shares, where=whole > 0)
    # The draw above the quantile itself: between two draws nothing was seen.
    return 1 - np.quantile(shares, 1 - LOW, axis=0, method="higher")


def unseen_losers(queries: int) -> float:
    """Return the share of all queries that may lose something where none of so many did.

    The upper end of a one-sided 95 % interval (Clopper and Pearson, 1934): about 3 / `queries`.
    """
    return float(1 - LOW ** (1 / queries))


def folds(queries: int) -> Iterator[tuple[Queries, Queries]]:
    """Give the queries to choose on and those to check on; each is checked on once.

    A single query can't be shared out: then there is nothing to give.
    """
    if queries < 2:
        return
    order = np.random.default_rng(SEED).permutation(queries)
    for held_out in np.array_split(order, min(FOLDS, queries)):
        yield np.setdiff1d(order, held_out), held_out
