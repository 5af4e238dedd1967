"""Measures against published examples; what a dispute leads to."""

import itertools

import pytest

from training.label.agreement import Verdict, measure, verdict
from training.label.keys import PairKey
from training.plan_data import AgreementPlan

Judged = dict[PairKey, dict[str, float]]


def judged(table: dict[str, list[float | None]]) -> Judged:
    """Annotator → what they said of pair 0, 1, …"""
    found: Judged = {}
    for name, labels in table.items():
        for place, label in enumerate(labels):
            if label is not None:
                found.setdefault(("q", f"d{place}"), {})[name] = label
    return found


def test_cohen_of_a_textbook_example() -> None:
    # 20 times both say yes, 15 times both no, 5 and 10 times they differ: kappa 0.4.
    one = [1.0] * 25 + [0.0] * 25
    two = [1.0] * 20 + [0.0] * 5 + [1.0] * 10 + [0.0] * 15
    found = measure(judged({"anna": [*one], "ben": [*two]}))
    kappa, pairs = found.cohen["anna", "ben"]
    assert kappa == pytest.approx(0.4)
    assert pairs == 50
    assert found.note() is None


def test_fleiss_of_his_own_example() -> None:
    # https://en.wikipedia.org/wiki/Fleiss%27_kappa: ten subjects, fourteen raters, kappa 0.210.
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    said: Judged = {}
    for place, row in enumerate(counts):
        labels = itertools.chain(*([grade / 4] * n for grade, n in enumerate(row)))
        said["q", f"d{place}"] = {f"a{number}": label for number, label in enumerate(labels)}
    assert measure(said).fleiss == pytest.approx(0.210, abs=5e-4)


def test_krippendorff_of_his_own_example() -> None:
    # Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011, part C: interval 0.849.
    n = None
    table: dict[str, list[float | None]] = {
        "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, n, n, n],
        "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, n, 3],
        "C": [n, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, n],
        "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, n],
    }
    found = measure(judged(table))
    assert found.krippendorff == pytest.approx(0.849, abs=5e-4)
    assert found.shared == 11
    assert found.annotators == {"A": 9, "B": 11, "C": 10, "D": 11}


def test_one_annotator_only_is_said() -> None:
    found = measure(judged({"anna": [1.0, 0.0]}))
    assert (found.fleiss, found.krippendorff, found.cohen) == (None, None, {})
    assert "all judgements are by one annotator, 'anna'" in str(found.note())


def test_two_who_never_met_are_said() -> None:
    found = measure(judged({"anna": [1.0, None], "ben": [None, 0.0]}))
    assert "no pair was judged by more than one" in str(found.note())


def test_two_who_always_say_the_same_thing_give_no_measure() -> None:
    found = measure(judged({"anna": [1.0, 1.0], "ben": [1.0, 1.0]}))
    assert found.cohen["anna", "ben"] == (None, 2)
    assert (found.fleiss, found.krippendorff) == (None, None)


@pytest.mark.parametrize(
    ("disputed", "weight"), [("drop", 0.0), ("downweight", 0.3), ("keep", 1.0)]
)
def test_what_becomes_of_a_disputed_pair(disputed: str, weight: float) -> None:
    plan = AgreementPlan.model_validate({"disputed": disputed})
    assert verdict({"anna": 1.0, "ben": 1.0, "cora": 0.0}, plan) == Verdict(1.0, weight, True)
    # One grade of three apart is no dispute.
    close = verdict({"anna": 2 / 3, "ben": 1.0}, plan)
    assert close.label == pytest.approx(5 / 6)
    assert not close.disputed


def test_an_adjudicator_ends_the_dispute() -> None:
    found = verdict({"anna": 1.0, "ben": 0.0, "adjudicator": 1 / 3}, AgreementPlan())
    assert found == Verdict(1 / 3, 1.0, False)


@pytest.mark.parametrize(
    ("consensus", "label"), [("mean", 0.55), ("median", 0.6), ("majority", 0.0)]
)
def test_consensus(consensus: str, label: float) -> None:
    plan = AgreementPlan.model_validate({"consensus": consensus, "max_spread": 1.0})
    labels = {"a": 0.0, "b": 0.0, "c": 1.0, "d": 1.0, "e": 0.6, "f": 0.7}
    assert verdict(labels, plan).label == pytest.approx(label, abs=0.051)
