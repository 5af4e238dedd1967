"""Attention's kernel is exact but for its rounding, and keeps rows and sequences apart."""

import math

import numpy as np
import pytest

from engine.kernels import ATTENTION
from tests.unit.engine.kernel_calls import (
    Array,
    Exact,
    needs_kernels,
    normal,
    run,
)

# Queries, keys, heads, width of a head.
SHAPES = [
    *((tokens, tokens, 2, 32) for tokens in (1, 2, 3, 5, 7, 8, 9, 11, 13, 15, 16, 17, 23, 31, 33)),
    *((tokens, tokens, 12, 32) for tokens in (37, 40, 63, 64, 65, 130, 300)),
    *((21, 21, heads, width) for heads in (1, 12) for width in (8, 16, 32, 40, 64)),
    *((65, 65, 1, width) for width in (8, 16, 40, 64)),
    *((1, keys, 12, 32) for keys in (1, 2, 9, 64, 65, 300)),
    (1, 130, 1, 64),
    (5, 40, 2, 16),
    (12, 3, 2, 40),
]


def attend(query: Array, key: Array, value: Array, heads: int = 1) -> Array:
    (context,) = run(ATTENTION, {"query": query, "key": key, "value": value}, heads=heads)
    return np.asarray(context, np.float32)


def by_head(value: Array, heads: int) -> Exact:
    batch, tokens, columns = value.shape
    apart = value.astype(np.float64).reshape(batch, tokens, heads, columns // heads)
    return apart.transpose(0, 2, 1, 3)


def together(value: Exact) -> Exact:
    batch, heads, tokens, width = value.shape
    return value.transpose(0, 2, 1, 3).reshape(batch, tokens, heads * width)


def exact_attention(
    query: Array, key: Array, value: Array, heads: int, *, half: float = 0.501
) -> tuple[Exact, Exact]:
    """Attention in float64, and how far the kernel's rounding may lead away from it.

    Queries and keys are rounded to steps of a `limit`th of their largest, values of a 4095th, and
    weights of an 8191st of a row's largest. A half step has a little more for float32;
    `half` is what rounds queries and keys.
    """
    q, k, v = (by_head(each, heads) for each in (query, key, value))
    width = q.shape[3]
    scores = q @ k.swapaxes(2, 3) / math.sqrt(width)
    raised = np.exp(scores - scores.max(axis=3, keepdims=True))
    total = raised.sum(axis=3, keepdims=True)
    weights = raised / total

    limit = math.floor(math.sqrt(2147483000 / (-(-width // 32) * 32)))
    step_q = half * np.abs(q).max(axis=3, keepdims=True) / limit
    step_k = half * np.abs(k).max(axis=(2, 3), keepdims=True) / limit
    step_v = 0.501 * np.abs(v).max(axis=(2, 3), keepdims=True) / 4095
    off = step_q * np.abs(k).sum(axis=3)[:, :, None] + step_k * np.abs(q).sum(axis=3, keepdims=True)
    off = (off + width * step_q * step_k) / math.sqrt(width) + 1e-6 * np.abs(scores)
    # A weight's own score may be off to one side, and those in the sum to the other.
    grown = np.expm1(2 * (off.max(axis=3, keepdims=True) + 4e-6))
    step_w = 0.501 / 8191 / total * (1 + grown)
    bound = grown * (weights @ np.abs(v)) + step_w * np.abs(v).sum(axis=2, keepdims=True)
    bound = bound + step_v * (1 + step_w * k.shape[2]) + 1e-6 * np.abs(v).max()
    return together(weights @ v), together(bound)


@needs_kernels
@pytest.mark.parametrize(("queries", "keys", "heads", "width"), SHAPES)
@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
def test_attention_is_exact_but_for_its_rounding(
    queries: int, keys: int, heads: int, width: int, spread: float
) -> None:
    query = spread * normal(queries, 2, queries, heads * width)
    key, value = (normal(seed, 2, keys, heads * width) for seed in (1000 + keys, 2000 + keys))
    expected, bound = exact_attention(query, key, value, heads)
    off = np.abs(attend(query, key, value, heads) - expected)
    assert (off <= bound).all()
    # Errors to both sides mostly cancel out.
    assert math.sqrt(np.mean(off**2)) < 2.5e-4 * max(1, spread)


@needs_kernels
@pytest.mark.parametrize("width", [8, 32, 40, 64])
def test_all_bits_of_queries_and_keys_are_used_and_no_sum_overflows(width: int) -> None:
    """All columns are the largest, so a sum is as large as can be; a second key is near."""
    query, value = np.full((1, 9, width), 3, np.float32), normal(1, 1, 20, width)
    key = np.full((1, 20, width), -5, np.float32)
    key[0, 3] = 5
    key[0, 7] = 4.99
    value[0, 3] = value.max()
    value[0, 7] = -value.max()
    expected, bound = exact_attention(query, key, value, 1)
    assert (np.abs(attend(query, key, value) - expected) <= bound).all()
    assert bound.max() < 0.1 * np.abs(value).max()


@needs_kernels
def test_no_sum_of_weighted_values_overflows() -> None:
    """All of a long text have the largest weight and value."""
    for sign in (1, -1):
        value = np.full((1, 512, 32), sign * 7, np.float32)
        found = attend(normal(1, 1, 3, 32), np.ones((1, 512, 32), np.float32), value)
        np.testing.assert_allclose(found, sign * 7, rtol=1e-6)


@needs_kernels
@pytest.mark.parametrize("tokens", [1, 2, 3, 15, 16, 17, 33, 64, 65, 300, 512])
def test_equal_keys_give_the_mean_of_the_values(tokens: int) -> None:
    key = np.repeat(normal(1, 1, 1, 64), tokens, axis=1)
    value = normal(2, 1, tokens, 64)
    found = attend(normal(3, 1, 4, 64), key, value, 2)
    mean = value.mean(axis=1, dtype=np.float64)[:, None]
    assert np.abs(found - mean).max() <= (0.501 / 4095 + 1e-6) * np.abs(value).max()


@needs_kernels
@pytest.mark.parametrize("tokens", [2, 16, 33, 300, 512])
def test_one_key_that_outweighs_all_gives_its_value(tokens: int) -> None:
    for winner in (0, tokens // 2, tokens - 1):
        query = np.full((1, 3, 32), 4, np.float32)
        key, value = normal(1, 1, tokens, 32), normal(2, 1, tokens, 32)
        key[0, winner] = 9
        found = attend(query, key, value)
        assert np.abs(found - value[0, winner]).max() <= (0.501 / 4095 + 1e-6) * np.abs(value).max()


@needs_kernels
@pytest.mark.parametrize("level", [20.96, 20.5, 1.01, 0.49])
def test_many_small_weights_beside_a_large_one_are_not_lost(level: float) -> None:
    """511 keys weigh so many 8191sts of one each, and may weigh more than it together."""
    key, value = np.zeros((1, 512, 32), np.float32), np.ones((1, 512, 32), np.float32)
    key[0, 5], value[0, 5] = 1, -1
    query = np.full((1, 1, 32), math.log(8191 / level) / math.sqrt(32), np.float32)
    expected, bound = exact_attention(query, key, value, 1)
    assert (np.abs(attend(query, key, value) - expected) <= bound).all()


@needs_kernels
@pytest.mark.parametrize("level", [8191, 7000, 5800, 5000, 4100, 3500, 2500, 1300, 700, 300])
def test_weights_that_are_whole_levels_add_up_to_one(level: int) -> None:
    """What is left is how exact the exponential is."""
    key, value = np.zeros((1, 512, 32), np.float32), np.ones((1, 512, 32), np.float32)
    key[0, 5] = 1
    query = np.full((1, 1, 32), math.log(8191 / level) / math.sqrt(32), np.float32)
    assert np.abs(attend(query, key, value) - 1).max() < 5e-6


@needs_kernels
@pytest.mark.parametrize(("width", "limit"), [(8, 8191), (32, 8191), (40, 5792), (64, 5792)])
def test_queries_and_keys_that_are_whole_steps_are_not_rounded(width: int, limit: int) -> None:
    """`limit` is the most whose products, of all columns padded to 32, add up to 31 bits."""
    chance = np.random.default_rng(width)
    query, key = (
        chance.integers(-limit, limit, (1, 30, width), endpoint=True).astype(np.float32)
        for _ in range(2)
    )
    query[:, :, 3] = key[:, :, 5] = limit
    query *= np.float32(2.0**-19)
    value = normal(width, 1, 30, width)
    expected, bound = exact_attention(query, key, value, 1, half=0.002)
    assert (np.abs(attend(query, key, value) - expected) <= bound).all()


@needs_kernels
def test_what_is_a_power_of_two_larger_gives_the_same_bits() -> None:
    """Scales take up any size."""
    query, key, value = (normal(seed, 1, 21, 64) for seed in range(3))
    expected = attend(query, key, value, 2)
    for up, down in ((2.0**50, 2.0**-50), (2.0**-50, 2.0**50)):
        assert np.array_equal(attend(up * query, down * key, value, 2), expected)
    for size in (2.0**110, 2.0**-90):
        assert np.array_equal(attend(query, key, np.float32(size) * value, 2), size * expected)


@needs_kernels
def test_huge_scores_give_the_value_of_the_key_that_wins() -> None:
    query, key, value = normal(1, 1, 9, 32), normal(2, 1, 40, 32), normal(3, 1, 40, 32)
    scores = query[0] @ key[0].T
    best, second = np.sort(scores, axis=1)[:, ::-1][:, :2].T
    clear = best - second > 0.02
    found = attend(np.float32(1e15) * query, np.float32(1e15) * key, value)[0]
    off = np.abs(found - value[0, scores.argmax(axis=1)]).max(axis=1)
    assert clear.sum() > 5
    assert (off[clear] <= (0.501 / 4095 + 1e-6) * np.abs(value).max()).all()
    assert np.isfinite(found).all()


@needs_kernels
@pytest.mark.parametrize("zero", ["query", "key", "value", "query key", "query key value"])
def test_zeros_are_no_division_by_zero(zero: str) -> None:
    feeds = {name: normal(len(name), 1, 19, 64) for name in ("query", "key", "value")}
    for name in zero.split():
        feeds[name][:] = 0
    expected, bound = exact_attention(feeds["query"], feeds["key"], feeds["value"], 2)
    found = attend(feeds["query"], feeds["key"], feeds["value"], 2)
    assert (np.abs(found - expected) <= bound).all()
    if "value" in zero:
        assert not found.any()


@needs_kernels
@pytest.mark.parametrize(("tokens", "heads"), [(1, 2), (17, 2), (64, 1), (130, 12)])
def test_a_sequence_gives_the_same_bits_next_to_any_others(tokens: int, heads: int) -> None:
    query, key, value = (normal(seed, 6, tokens, heads * 32) for seed in range(3))
    for each, factor in ((query, 50), (key, 1000), (value, 1e6)):
        each[1] *= factor
        each[3] = 0
        each[4] = np.inf
    whole = attend(query, key, value, heads)
    for row in range(6):
        at = slice(row, row + 1)
        alone = attend(query[at], key[at], value[at], heads)
        assert np.array_equal(alone[0], whole[row], equal_nan=True)
    for order in ([5, 0], [0, 2, 5, 1, 1, 4, 3]):
        found = attend(query[order], key[order], value[order], heads)
        assert np.array_equal(found, whole[order], equal_nan=True)


@needs_kernels
def test_a_query_gives_the_same_bits_alone_and_among_others() -> None:
    """Eight, four or one are computed at a time."""
    query, key, value = normal(1, 1, 15, 64), normal(2, 1, 33, 64), normal(3, 1, 33, 64)
    whole = attend(query, key, value, 2)
    for at in range(15):
        assert np.array_equal(attend(query[:, at : at + 1], key, value, 2)[0, 0], whole[0, at])


@needs_kernels
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (7, 41), (8, 40), (12, 79)])
def test_a_query_that_is_no_number_makes_its_row_of_its_head_none(
    wrong: float, row: int, column: int
) -> None:
    """Eight rows, four and one are computed together; a head has a vector and a half."""
    query, key, value = (normal(seed, 3, 13, 80) for seed in range(3))
    expected = attend(query, key, value, 2)
    head = slice(column // 40 * 40, column // 40 * 40 + 40)
    expected[1, row, head] = np.nan
    query[1, row, column] = wrong
    assert np.array_equal(attend(query, key, value, 2), expected, equal_nan=True)


@needs_kernels
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["key", "value"])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (15, 41), (16, 40), (20, 79)])
def test_a_key_or_value_that_is_no_number_makes_its_head_of_its_sequence_none(
    wrong: float, side: str, row: int, column: int
) -> None:
    feeds = {"query": normal(0, 3, 13, 80), "key": normal(1, 3, 21, 80)}
    feeds["value"] = normal(2, 3, 21, 80)
    expected = attend(**feeds, heads=2)
    head = slice(column // 40 * 40, column // 40 * 40 + 40)
    expected[1, :, head] = np.nan
    feeds[side][1, row, column] = wrong
    assert np.array_equal(attend(**feeds, heads=2), expected, equal_nan=True)


@needs_kernels
@pytest.mark.parametrize("largest", [3e38, np.finfo(np.float32).max])
def test_the_largest_numbers_are_numbers(largest: float) -> None:
    query, key, value = (normal(seed, 1, 9, 32) for seed in range(3))
    value[0, 3, 5] = largest
    assert np.isfinite(attend(query, key, value)).all()


def sink(gap: float, keys: int, width: int) -> tuple[Array, Array, Array]:
    """One query and key whose score is `gap` above all others, and values that pull apart."""
    key, value = np.zeros((1, keys, width), np.float32), np.ones((1, keys, width), np.float32)
    key[0, keys // 3], value[0, keys // 3] = 1, -1
    query = np.full((1, 1, width), gap / math.sqrt(width), np.float32)
    return query, key, value


@needs_kernels
@pytest.mark.parametrize("keys", [256, 512, 2048])
@pytest.mark.parametrize("width", [8, 32, 40, 64])
@pytest.mark.parametrize("gap", [9, 9.5, 9.65, 9.75, 10, 10.5, 11, 12, 14, 30])
def test_what_a_long_tail_weighs_beside_one_key_is_not_lost(
    gap: float, width: int, keys: int
) -> None:
    """A weight of the tail is less than half a level and lost, or more and taken for one."""
    query, key, value = sink(gap, keys, width)
    expected, _ = exact_attention(query, key, value, 1)
    assert np.abs(attend(query, key, value) - expected).max() < 3e-3


@needs_kernels
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_makes_all_columns_none_beside_a_long_tail_too(
    wrong: float,
) -> None:
    query, key, value = sink(10, 512, 40)
    value[0, 9, 3] = wrong
    assert np.isnan(attend(query, key, value)).all()


@needs_kernels
@pytest.mark.parametrize("keys", [256, 512, 2048])
def test_a_tail_of_any_values_is_not_lost_in_any_head_or_row(keys: int) -> None:
    """Some rows have a sink and some have none; both heads have their own."""
    query, key, value = sink(10, keys, 64)
    key[:] += 0.002 * normal(1, 1, keys, 64)
    key[0, keys // 3, :] = 1
    key[0, keys - 1, 32:] = key[0, keys // 3, 32:]
    key[0, keys // 3, 32:] = 0
    value = normal(2, 1, keys, 64) + 1
    query = np.repeat(np.full((1, 1, 64), 10 / math.sqrt(32), np.float32), 13, axis=1)
    query[0, [1, 3, 6, 8, 11]] *= 0.01
    whole = attend(query, key, value, 2)
    expected, _ = exact_attention(query, key, value, 2)
    assert np.abs(whole - expected).max() < 3e-3 * np.abs(value).max()
    for at in range(13):
        assert np.array_equal(attend(query[:, at : at + 1], key, value, 2)[0, 0], whole[0, at])
