"""What is compared is measured in turn, and ratios are those of a round."""

import pytest

from bench.engine_timing import Spread, Timing, in_turn, speed_ratio


def test_contestants_take_turns() -> None:
    order: list[str] = []
    timings = in_turn(
        "test",
        {name: lambda number, name=name: order.append(f"{name}{number}") for name in "AB"},  # type: ignore[misc]
        rounds=2,
    )
    assert order == ["A0", "B0", "A1", "B1"]
    assert [len(rows) for rows in timings.values()] == [2, 2]


def test_ratios_are_taken_round_by_round() -> None:
    fast = [Timing(1, 1), Timing(4, 2), Timing(2, 1)]
    slow = [Timing(3, 5), Timing(8, 2), Timing(10, 3)]
    assert speed_ratio(fast, slow) == Spread(2, 3, 5)
    assert speed_ratio(fast, slow, cpu=True) == Spread(1, 3, 5)


def test_ratios_need_as_many_rounds_of_both() -> None:
    with pytest.raises(ValueError, match="argument"):
        speed_ratio([Timing(1, 1)], [])


def test_a_spread_reads_median_first() -> None:
    assert str(Spread.of([3.0, 1.0, 2.0])) == "2.00 (1.00-3.00)"
