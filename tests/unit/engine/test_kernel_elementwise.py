"""The kernels of GELU and of layer norms are exact but for their rounding."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.kernels import ADD_NORM_QUANTIZE, GELU_QUANTIZE
from tests.unit.engine.kernel_calls import (
    Array,
    Exact,
    Feeds,
    needs_kernels,
    norm_feeds,
    normal,
    rounded,
    run,
)


def gelu(value: NDArray[Any]) -> Exact:
    wide = value.astype(np.float64)
    return np.asarray(wide * np.vectorize(math.erfc)(-wide / math.sqrt(2)) / 2, np.float64)


def gelu_quantized(value: Array, factor: Array, zero_point: int) -> NDArray[Any]:
    zero: NDArray[Any] = np.asarray(zero_point, np.uint8)
    return run(GELU_QUANTIZE, {"input": value, "factor": factor, "zero_point": zero})[0]


@needs_kernels
@pytest.mark.parametrize(("low", "high"), [(-8, 0), (-1, 1), (0, 8)])
def test_gelu_is_within_a_millionth(low: float, high: float) -> None:
    """A level differs at most where the exact value is so near to the edge of two."""
    chance = np.random.default_rng(3)
    value = chance.uniform(low, high, (600, 500)).astype(np.float32)
    exact = gelu(value)
    largest = np.abs(exact).max()
    factor = np.geomspace(20, 127 / largest, 500).astype(np.float32)
    scaled = exact * factor
    expected = np.clip(np.rint(scaled) + 128, 0, 255)
    off = np.abs(gelu_quantized(value, factor, 128) - expected)
    edge = np.abs(scaled - np.floor(scaled) - 0.5) <= factor * 1e-6 + np.abs(scaled) * 2e-7
    assert off.max() <= 1
    assert not off[~edge].any()
    assert edge.mean() < 0.01


@needs_kernels
@pytest.mark.parametrize("channels", [1, 3, 15, 16, 17, 31, 33, 96, 385])
def test_gelu_of_any_number_of_channels(channels: int) -> None:
    value = 2 * normal(channels, 3, 5, channels)
    factor = np.random.default_rng(1).uniform(5, 40, channels).astype(np.float32)
    found = gelu_quantized(value, factor, 31)
    scaled = gelu(value) * factor
    expected = np.clip(np.rint(scaled) + 31, 0, 255)
    edge = np.abs(scaled - np.floor(scaled) - 0.5) < 1e-3
    assert found.shape == value.shape
    assert np.array_equal(found[~edge], expected[~edge])
    assert edge.mean() < 0.1


@needs_kernels
@pytest.mark.parametrize("zero_point", [0, 20, 255])
def test_gelu_is_cut_off_at_0_and_255_however_large_it_is(zero_point: int) -> None:
    large = np.asarray([300, 1e5, 3e7, 1e10, 3e38, np.inf], np.float32)
    factor = np.ones(6, np.float32)
    assert (gelu_quantized(large, factor, zero_point) == 255).all()
    assert (gelu_quantized(large, 1e6 * factor, zero_point) == 255).all()
    assert (gelu_quantized(-large, factor, zero_point) == zero_point).all()
    # Negative factors are none that export writes, and show the lower end.
    assert (gelu_quantized(large, -factor, zero_point) == 0).all()


@needs_kernels
def test_gelu_rounds_ties_to_even_as_the_standard_operator_does() -> None:
    value = np.arange(8, 60, dtype=np.float32)  # gelu(8) and more is the value itself
    found = gelu_quantized(value, np.full(52, 0.5, np.float32), 1)
    assert found.tolist() == rounded(value, np.full(52, 0.5, np.float32), 1).tolist()


# --- layer normalisation


def exact_norm(feeds: Feeds) -> Exact:
    total = (feeds["left"] + feeds["right"]).astype(np.float64)
    off = total - total.mean(axis=-1, keepdims=True)
    deviation = np.sqrt(np.mean(off**2, axis=-1, keepdims=True) + 1e-5)
    return np.asarray(off / deviation * feeds["scale"] + feeds["bias"], np.float64)


@needs_kernels
@pytest.mark.parametrize("channels", [2, 7, 15, 16, 17, 31, 48, 384, 385])
@pytest.mark.parametrize(("mean", "spread"), [(0, 1), (0, 30), (1000, 1)])
def test_a_norm_is_exact_but_for_float32(channels: int, mean: float, spread: float) -> None:
    left = spread * normal(1, 2, 5, channels) + np.float32(mean)
    feeds = norm_feeds(left, spread * normal(2, 2, 5, channels), channels)
    output, levels = run(ADD_NORM_QUANTIZE, feeds)
    assert np.abs(output - exact_norm(feeds)).max() < 1e-5 + mean * 1e-6
    assert np.array_equal(levels, rounded(output, feeds["factor"], 117))
    assert 0 < levels.min() < 117 < levels.max() < 255


@needs_kernels
def test_a_norm_s_levels_are_cut_off_at_0_and_255() -> None:
    feeds = norm_feeds(normal(1, 2, 40), normal(2, 2, 40), 40)
    for factor in (1e3, 1e9, 1e30):
        feeds["factor"] = np.full(40, factor, np.float32)
        output, levels = run(ADD_NORM_QUANTIZE, feeds)
        assert np.array_equal(levels, rounded(output, feeds["factor"], 117))
        assert {0, 255} <= set(levels.flat)


@needs_kernels
def test_a_row_without_differences_gives_the_bias() -> None:
    feeds = norm_feeds(np.full((3, 17), 2, np.float32), np.full((3, 17), 6, np.float32), 17)
    output, _ = run(ADD_NORM_QUANTIZE, feeds)
    assert np.array_equal(output, np.broadcast_to(feeds["bias"], (3, 17)))


@needs_kernels
@pytest.mark.parametrize("channels", [16, 23])
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((2, 5), (5,)),
        ((2, 5), (1, 5)),
        ((2, 5), (2, 1)),
        ((2, 5), (1, 1)),
        ((2, 5), ()),
        ((2, 1), (1, 5)),
        ((5,), (2, 1)),
        ((), (3,)),
        ((), ()),
        ((2, 1, 4), (3, 1)),
        ((3, 4), (2, 1, 1)),
    ],
)
def test_what_is_added_broadcasts(
    channels: int, left: tuple[int, ...], right: tuple[int, ...]
) -> None:
    feeds = norm_feeds(normal(1, *left, channels), normal(2, *right, channels), channels)
    output, levels = run(ADD_NORM_QUANTIZE, feeds)
    expected = exact_norm(feeds)
    assert output.shape == levels.shape == expected.shape
    assert np.abs(output - expected).max() < 1e-5
    assert np.array_equal(levels, rounded(output, feeds["factor"], 117))


@needs_kernels
def test_a_row_is_normalised_to_the_same_bits_next_to_any_others() -> None:
    feeds = norm_feeds(normal(1, 4, 3, 50), normal(2, 4, 3, 50), 50)
    feeds["left"][1] *= 1e4
    whole = run(ADD_NORM_QUANTIZE, feeds)
    for row in range(4):
        some = {name: feeds[name][row : row + 1] for name in ("left", "right")}
        alone = run(ADD_NORM_QUANTIZE, {**feeds, **some})
        assert [each.tolist() for each in alone] == [each[row : row + 1].tolist() for each in whole]


@needs_kernels
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("at", [0, 15, 16, 20])
def test_what_is_no_number_stays_none_and_in_its_row(side: str, at: int) -> None:
    feeds = norm_feeds(normal(1, 4, 21), normal(2, 4, 21), 21)
    sound, _ = run(ADD_NORM_QUANTIZE, feeds)
    feeds[side][2, at] = np.nan
    output, _ = run(ADD_NORM_QUANTIZE, feeds)
    assert np.isnan(output[2]).all()
    assert np.array_equal(output[[0, 1, 3]], sound[[0, 1, 3]])
