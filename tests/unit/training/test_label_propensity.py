"""On simulated clicks the known propensities come back, and click rates alone are wrong."""

import numpy as np
import pytest

from training.label.clicks import Exposure, label_and_weight
from training.label.propensity import Propensities, estimate, propensities
from training.plan_data import ClickPlan

POSITIONS = 10
KNOWN = [1 / position**0.8 for position in range(1, POSITIONS + 1)]
Log = list[dict[int, tuple[int, int]]]


def simulated(seed: int, *, moved: bool, queries: int = 150, shows: int = 200) -> Log:
    """Lists of ten, best first but for the noise of three rankers; PBM clicks.

    Without `moved`, one ranker always shows the same list.
    """
    rng = np.random.default_rng(seed)
    log: Log = []
    for _ in range(queries):
        relevance = rng.beta(1, 2, POSITIONS)
        rankers = [relevance + rng.normal(0, 0.3, POSITIONS) for _ in range(3 if moved else 1)]
        counts: list[dict[int, tuple[int, int]]] = [{} for _ in range(POSITIONS)]
        for scores in rankers:
            for place, document in enumerate(np.argsort(-scores)):
                clicks = int(rng.binomial(shows, KNOWN[place] * relevance[document]))
                before = counts[document].get(place + 1, (0, 0))
                counts[document][place + 1] = (before[0] + shows, before[1] + clicks)
        log += counts
    return log


def test_known_propensities_are_recovered() -> None:
    log = simulated(1, moved=True)
    found = estimate(log, POSITIONS, 50)
    assert [found[k] for k in range(1, POSITIONS + 1)] == pytest.approx(KNOWN, abs=0.05)
    rates = [
        sum(pair[k][1] for pair in log if k in pair) / sum(pair[k][0] for pair in log if k in pair)
        for k in range(1, POSITIONS + 1)
    ]
    # What is shown first is also better, so plain click rates fall far too fast.
    assert rates[4] / rates[0] < KNOWN[4] - 0.1


def test_a_log_that_never_moves_a_document_says_nothing() -> None:
    log = simulated(2, moved=False)
    assert estimate(log, POSITIONS, 50) == {1: 1.0}
    assumed = propensities(log, ClickPlan(eta=1.0, max_position=3))
    assert assumed == Propensities((1.0, 0.5, 1 / 3), (), 1.0)


def test_positions_that_the_log_lacks_follow_the_curve_of_the_others() -> None:
    found = propensities(simulated(3, moved=True), ClickPlan(max_position=20))
    assert found.estimated == tuple(range(1, 11))
    assert found.eta == pytest.approx(0.8, abs=0.05)
    assert found.at(15) == pytest.approx(15**-found.eta)
    assert found.at(99) == found.at(20)


def test_to_assume_needs_no_log() -> None:
    assert propensities([], ClickPlan(propensity="assume", eta=0.5)).at(4) == pytest.approx(0.5)


def test_corrected_labels_of_equal_documents_are_equal_wherever_they_are_shown() -> None:
    known = Propensities(tuple(KNOWN), tuple(range(1, 11)), 0.8)
    shows, relevance = 100_000, 0.4
    labels = [
        label_and_weight(
            Exposure({place: [shows, int(shows * KNOWN[place - 1] * relevance)]}), known, 10.0
        )[0]
        for place in (1, 4, 9)
    ]
    assert labels == pytest.approx([relevance] * 3, abs=1e-3)


def test_weights_are_inverse_propensities_and_clipped() -> None:
    known = Propensities((1.0, 0.25, 0.01), (1, 2, 3), 2.0)
    assert label_and_weight(Exposure({1: [1, 1]}), known, 10.0) == (1.0, 1.0)
    assert label_and_weight(Exposure({2: [1, 1]}), known, 10.0) == (1.0, 4.0)
    assert label_and_weight(Exposure({3: [1, 1]}), known, 10.0) == (1.0, 10.0)
    # Nobody clicked: sure at the top, hardly anything said at the bottom.
    assert label_and_weight(Exposure({1: [1, 0]}), known, 10.0) == (0.0, 1.0)
    assert label_and_weight(Exposure({2: [1, 0]}), known, 10.0) == (0.0, 0.25)
    assert label_and_weight(Exposure({3: [1, 0]}), known, 10.0) == (0.0, 0.1)
