"""The scaler's formula, by cases worked out by hand."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.scaler import Direction, Rules, Scaler, StepPolicy, rules_of_manifest

RULES = Rules(
    threshold=10,
    least=1,
    most=6,
    limit_to_partitions_with_lag=True,
    sync_s=15,
    up=Direction(0, [StepPolicy("Percent", 100, 30), StepPolicy("Pods", 4, 30)]),
    down=Direction(300, [StepPolicy("Pods", 1, 60)]),
)


def even(total: int, partitions: int = 6) -> dict[int, int]:
    return {n: (total + n) // partitions for n in range(partitions)}


@pytest.mark.parametrize(
    ("lag", "present", "chosen"),
    [
        ({0: 0, 1: 0}, 1, 1),  # never below the least
        ({0: 5, 1: 0}, 1, 1),  # half a threshold: one
        ({0: 6, 1: 5}, 1, 1),  # 11 of 10: within the tolerance
        ({0: 6, 1: 6}, 1, 2),  # 12 of 10: two
        ({0: 900, 1: 0, 2: 0}, 1, 1),  # one partition waits: one can help
        ({0: 900, 1: 1, 2: 0}, 1, 2),
        # KEDA's bound rounds down and the rest rounds up: one more than there are partitions.
        # So the manifests' checks bound the number by the partitions as well.
        ({0: 13, 1: 13, 2: 13}, 1, 4),
        ({0: 14, 1: 13, 2: 13}, 1, 3),
        (even(40), 1, 4),
        (even(60), 1, 5),  # at most four more at once
        (even(6000), 3, 6),  # at most as many as the manifest allows
    ],
)
def test_one_decision(lag: dict[int, int], present: int, chosen: int) -> None:
    assert Scaler(RULES).decide(lag, present, now_s=0) == chosen


def play(scaler: Scaler, totals: Sequence[int], every_s: float = 15) -> list[int]:
    present, history = 1, []
    for number, total in enumerate(totals):
        present = scaler.decide(even(total), present, number * every_s)
        history.append(present)
    return history


def test_up_at_once_and_further_after_the_period() -> None:
    assert play(Scaler(RULES), [600] * 4) == [5, 5, 6, 6]


def test_down_only_after_the_window_and_by_one_a_minute() -> None:
    history = play(Scaler(RULES), [600, 600, 600, *[0] * 60])
    # Wanted six for the last time at 30 s, and 300 s later nothing holds them.
    assert history[3:22] == [6] * 19
    falling = history[22:]
    assert falling[:9] == [5, 5, 5, 5, 4, 4, 4, 4, 3]
    assert falling[-1] == 1


def test_a_second_burst_within_the_window_finds_the_workers_there() -> None:
    history = play(Scaler(RULES), [600, 600, 600, *[0] * 15, 600, *[0] * 15])
    assert history[2:] == [6] * 32


@given(
    lags=st.lists(st.lists(st.integers(0, 10_000), min_size=6, max_size=6), min_size=1, max_size=60)
)
def test_bounds_and_steps_hold_for_any_lag(lags: list[list[int]]) -> None:
    scaler, present = Scaler(RULES), 1
    last_down_s = float("-inf")
    for number, lag in enumerate(lags):
        now_s = number * 15.0
        chosen = scaler.decide(dict(enumerate(lag)), present, now_s)
        assert RULES.least <= chosen <= RULES.most
        assert chosen <= max(present * 2, present + 4)
        if chosen < present:
            assert present - chosen == 1
            assert now_s - last_down_s >= 60
            last_down_s = now_s
        present = chosen


def test_the_rules_are_the_manifests() -> None:
    rules = rules_of_manifest(threshold=20, least=1, most=12)
    assert rules.limit_to_partitions_with_lag
    assert rules.up == RULES.up
    assert rules.down == RULES.down
    quick = rules_of_manifest(threshold=20, least=1, most=12, speedup=10)
    assert (quick.sync_s, quick.down.window_s) == (1.5, 30)
    assert quick.down.policies == [StepPolicy("Pods", 1, 6)]
