"""Impressions and clicks to one number a query, whose mean says which model is better.

Interleaved: 1 where the challenger's entries got more clicks than the champion's, -1 where less,
else 0 (Radlinski, Kurup and Joachims, CIKM 2008).

Split: how good the list was is the reciprocal of the first clicked position, or whether there was
a click at all. A query only shows one model's list, so the difference is estimated: goodness less
the mean of all before it, over the probability of the model that was drawn, negative for the
champion. Its mean is the difference of the models' means, whatever the order of queries.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from schemas.events import Experiment
from training.ab.sequential import Floats

Metric = Literal["first_click", "any_click"]


@dataclass(frozen=True)
class Shown:
    """An impression that takes part: documents in their order, and when it was (ms, or None)."""

    query_id: str
    doc_ids: tuple[str, ...]
    tier: str
    experiment: Experiment
    time_ms: int | None = None


@dataclass(frozen=True)
class Observed:
    """What is tested: values between `low` and `high`, and goodness by arm."""

    values: Floats
    low: float
    high: float
    arms: Mapping[str, Floats]


def first_of_each(shown: Iterable[Shown]) -> list[Shown]:
    """Return the first impression of each query, by time where all have one."""
    listed = list(shown)
    if all(one.time_ms is not None for one in listed):
        listed.sort(key=lambda one: one.time_ms or 0)
    firsts: dict[str, Shown] = {}
    for one in listed:
        firsts.setdefault(one.query_id, one)
    return list(firsts.values())


def interleaved(shown: Sequence[Shown], clicks: Mapping[str, set[str]]) -> Observed:
    """Observe interleaved lists; `clicks` maps query → clicked documents."""
    champion, challenger = [], []
    for one in shown:
        clicked = clicks.get(one.query_id, set())
        teams = zip(one.doc_ids, one.experiment.teams or (), strict=False)
        won = [team for doc_id, team in teams if doc_id in clicked]
        champion.append(won.count("champion"))
        challenger.append(won.count("challenger"))
    of_champion, of_challenger = np.asarray(champion, float), np.asarray(challenger, float)
    values = np.sign(of_challenger - of_champion)
    return Observed(values, -1.0, 1.0, {"champion": of_champion, "challenger": of_challenger})


def split(
    shown: Sequence[Shown], clicks: Mapping[str, set[str]], metric: Metric, share: float
) -> Observed:
    """Observe lists of one model each, of which the challenger made `share`, between 0 and 1."""
    goodness = np.asarray(
        [_goodness(one, clicks.get(one.query_id, set()), metric) for one in shown], float
    )
    theirs = np.asarray([one.experiment.arm == "challenger" for one in shown], bool)
    before = np.concatenate([[0.0], np.cumsum(goodness)[:-1]]) / np.maximum(
        np.arange(len(shown)), 1
    )
    values = (goodness - before[: len(shown)]) * np.where(theirs, 1 / share, -1 / (1 - share))
    bound = 1 / min(share, 1 - share)
    arms = {"champion": goodness[~theirs], "challenger": goodness[theirs]}
    return Observed(values, -bound, bound, arms)


def _goodness(one: Shown, clicked: set[str], metric: Metric) -> float:
    places = [place for place, doc_id in enumerate(one.doc_ids, start=1) if doc_id in clicked]
    if not places:
        return 0.0
    return 1.0 if metric == "any_click" else 1.0 / places[0]
