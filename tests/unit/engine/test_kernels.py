"""The kernels compute what their functions of standard operators say, but for their rounding."""

import ctypes
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engine import kernels as kernels_module
from engine.graph import session_options
from engine.kernels import ADD_NORM_QUANTIZE, ATTENTION, DOMAIN, GELU_QUANTIZE, PRODUCT, library
from export.graph_writer import IR_VERSION, MICROSOFT, OPSET
from export.quantize.fuse import _functions

Array = NDArray[np.float32]
Exact = NDArray[np.float64]
Feeds = Mapping[str, NDArray[Any]]

OUTPUTS = {
    ATTENTION: {"context": TensorProto.FLOAT},
    GELU_QUANTIZE: {"rounded": TensorProto.UINT8},
    ADD_NORM_QUANTIZE: {"output": TensorProto.FLOAT, "rounded": TensorProto.UINT8},
    PRODUCT: {"output": TensorProto.FLOAT},
}
ATTRIBUTES: Mapping[str, dict[str, float]] = {
    ATTENTION: {"heads": 1},
    GELU_QUANTIZE: {},
    ADD_NORM_QUANTIZE: {"epsilon": 1e-5},
    PRODUCT: {},
}
# What a graph must hold, where all else is asked of whoever runs it.
CONSTANTS = {PRODUCT: ("weights", "input_scale", "scale", "zero_point", "bias")}
needs_kernels = pytest.mark.usefixtures("kernels")

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


def asked(name: str, feeds: Feeds) -> dict[str, NDArray[Any]]:
    """Those of `feeds` that are no constants of the graph."""
    return {key: value for key, value in feeds.items() if key not in CONSTANTS.get(name, ())}


def call(name: str, feeds: Feeds, **attributes: float) -> Any:
    """A model of one call, whose inputs have the ranks of `feeds`, and any size."""
    inputs = [
        helper.make_tensor_value_info(
            key, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim
        )
        for key, value in asked(name, feeds).items()
    ]
    constants = [
        numpy_helper.from_array(value, key)
        for key, value in feeds.items()
        if key not in asked(name, feeds)
    ]
    outputs = [
        helper.make_tensor_value_info(key, kind, None) for key, kind in OUTPUTS[name].items()
    ]
    node = helper.make_node(name, list(feeds), list(OUTPUTS[name]), domain=DOMAIN)
    for item in (ATTRIBUTES[name] | attributes).items():
        node.attribute.append(helper.make_attribute(*item))
    return helper.make_model(
        helper.make_graph([node], "call", inputs, outputs, constants),
        functions=[function for function in _functions() if function.name == name],
        opset_imports=[
            helper.make_opsetid(domain, version)
            for domain, version in (("", OPSET), (DOMAIN, 1), (MICROSOFT, 1))
        ],
        ir_version=IR_VERSION,
    )


def opened(model: Any, *, kernels: bool = True) -> ort.InferenceSession:
    return ort.InferenceSession(
        model.SerializeToString(),
        session_options(kernels=kernels),
        providers=["CPUExecutionProvider"],
    )


def run(name: str, feeds: Feeds, **attributes: float) -> list[NDArray[Any]]:
    return list(opened(call(name, feeds, **attributes)).run(None, asked(name, feeds)))


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rounded(value: Array, factor: Array, zero_point: int) -> NDArray[np.uint8]:
    levels: NDArray[np.float32] = np.rint(value * factor) + np.float32(zero_point)
    return levels.clip(0, 255).astype(np.uint8)


# --- attention


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


# --- GELU


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


def norm_feeds(left: Array, right: Array, channels: int) -> dict[str, NDArray[Any]]:
    chance = np.random.default_rng(channels)
    return {
        "left": left,
        "right": right,
        "scale": 1 + 0.2 * normal(channels + 1, channels),
        "bias": 0.2 * normal(channels + 2, channels),
        "factor": chance.uniform(5, 25, channels).astype(np.float32),
        "zero_point": np.asarray(117, np.uint8),
    }


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


# --- the product


def product_feeds(
    shape: tuple[int, ...], columns: int, *, zero_point: int = 117
) -> dict[str, NDArray[Any]]:
    chance = np.random.default_rng([*shape, columns])
    weights = chance.integers(-127, 127, (shape[-1], columns), endpoint=True)
    return {
        "input": chance.integers(0, 255, shape, endpoint=True).astype(np.uint8),
        "weights": weights.astype(np.int8),
        "input_scale": np.asarray(0.031, np.float32),
        "scale": chance.uniform(0.001, 0.02, columns).astype(np.float32),
        "zero_point": np.asarray(zero_point, np.uint8),
        "bias": normal(columns, columns),
    }


def multiplied(feeds: Feeds, *, kernels: bool = True) -> Array:
    session = opened(call(PRODUCT, feeds), kernels=kernels)
    return np.asarray(session.run(None, asked(PRODUCT, feeds))[0], np.float32)


def exact_product(feeds: Feeds) -> tuple[Exact, Exact]:
    """The product in integers and float64, and how far float32 may lead away from it.

    The sum, the product of the scales and the result are rounded, each to 2^-24 of it.
    """
    levels = feeds["input"].astype(np.int64) - int(feeds["zero_point"])
    total = (levels @ feeds["weights"].astype(np.int64)).astype(np.float64)
    scaled = total * feeds["input_scale"].astype(np.float64) * feeds["scale"].astype(np.float64)
    result = scaled + feeds["bias"].astype(np.float64)
    return result, 2.0**-24 * (2.01 * np.abs(scaled) + 1.01 * np.abs(result))


def check_product(feeds: Feeds) -> None:
    expected, bound = exact_product(feeds)
    found = multiplied(feeds)
    assert found.shape == expected.shape
    assert (np.abs(found - expected) <= bound).all()


@needs_kernels
@pytest.mark.parametrize("rows", [*range(1, 14), 41, 128])
@pytest.mark.parametrize("columns", [1, 15, 16, 17, 64, 70, 384])
def test_a_product_of_any_rows_and_columns_is_exact_but_for_float32(
    rows: int, columns: int
) -> None:
    """Six rows, two and one are computed together, and 64 columns or 16."""
    check_product(product_feeds((rows, 50), columns))


@needs_kernels
@pytest.mark.parametrize("depth", [*range(1, 10), 32, 50, 384])
@pytest.mark.parametrize(("rows", "columns"), [(1, 17), (9, 70), (13, 15)])
def test_a_product_of_any_depth_is_exact_but_for_float32(
    depth: int, rows: int, columns: int
) -> None:
    """Four products are added at once, and what is left of a row is no other row's."""
    check_product(product_feeds((rows, depth), columns))


@needs_kernels
@pytest.mark.parametrize("depth", [4096, 4095, 65_536])
@pytest.mark.parametrize(("level", "zero_point"), [(255, 0), (0, 255), (255, 128), (0, 128)])
@pytest.mark.parametrize("weight", [127, -127, -128])
def test_no_sum_of_a_product_overflows(
    depth: int, level: int, zero_point: int, weight: int
) -> None:
    feeds = product_feeds((3, depth), 17, zero_point=zero_point)
    feeds["input"][:] = level
    feeds["weights"][:, :16] = weight
    check_product(feeds)


@needs_kernels
@pytest.mark.parametrize("zero_point", [0, 1, 128, 255])
def test_rows_of_zero_points_give_the_bias(zero_point: int) -> None:
    feeds = product_feeds((7, 33), 21, zero_point=zero_point)
    feeds["input"][:] = zero_point
    assert np.array_equal(multiplied(feeds), np.broadcast_to(feeds["bias"], (7, 21)))


@needs_kernels
@pytest.mark.parametrize("lead", [(5,), (2, 5), (3, 1, 4), (1, 1)])
def test_a_product_keeps_all_axes_but_the_last(lead: tuple[int, ...]) -> None:
    check_product(product_feeds((*lead, 30), 18))


@needs_kernels
@pytest.mark.parametrize(("depth", "columns"), [(32, 32), (50, 70), (384, 384), (4096, 17)])
def test_a_product_is_that_of_the_runtime_but_for_float32(depth: int, columns: int) -> None:
    feeds = product_feeds((2, 9, depth), columns)
    standard = multiplied(feeds, kernels=False)
    _, bound = exact_product(feeds)
    assert (np.abs(multiplied(feeds) - standard) <= 2 * bound).all()


@needs_kernels
@pytest.mark.parametrize(("depth", "columns"), [(30, 70), (384, 384), (7, 5)])
def test_a_row_is_multiplied_to_the_same_bits_next_to_any_others(depth: int, columns: int) -> None:
    feeds = product_feeds((15, depth), columns)
    whole = multiplied(feeds)
    session = opened(call(PRODUCT, feeds))
    for order in (*([row] for row in range(15)), [14, 0, 3], [*range(2, 11)], [*range(15), 4, 4]):
        assert np.array_equal(session.run(None, {"input": feeds["input"][order]})[0], whole[order])


@needs_kernels
@pytest.mark.parametrize("name", CONSTANTS[PRODUCT])
def test_what_a_product_keeps_must_be_constant_when_it_is_opened(name: str) -> None:
    feeds = product_feeds((2, 5, 24), 24)
    model = call(PRODUCT, feeds)
    (tensor,) = (each for each in model.graph.initializer if each.name == name)
    model.graph.initializer.remove(tensor)
    model.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
    opened(model, kernels=False).run(None, asked(PRODUCT, feeds) | {name: feeds[name]})
    with pytest.raises(Exception, match="constant"):
        opened(model)


@needs_kernels
@pytest.mark.parametrize("empty", [True, False])
def test_a_product_needs_a_bias(empty: bool) -> None:
    model = call(PRODUCT, product_feeds((2, 5, 24), 24))
    model.graph.node[0].input.pop()
    if empty:
        model.graph.node[0].input.append("")
    with pytest.raises(Exception, match=f"bias|constant|{PRODUCT}"):
        opened(model)


@needs_kernels
def test_two_products_of_one_session_keep_their_own() -> None:
    feeds = product_feeds((3, 24), 40)
    model = call(PRODUCT, feeds)
    again = model.graph.node.add()
    again.CopyFrom(model.graph.node[0])
    again.input[1], again.output[0] = "others", "second"
    others = np.flip(feeds["weights"]).copy()
    model.graph.initializer.append(numpy_helper.from_array(others, "others"))
    model.graph.output.add().CopyFrom(model.graph.output[0])
    model.graph.output[1].name = "second"
    first, second = opened(model).run(None, asked(PRODUCT, feeds))
    assert np.array_equal(first, multiplied(feeds))
    assert np.array_equal(second, multiplied({**feeds, "weights": others}))


# --- what is used, and what is refused


FEEDS: Mapping[str, dict[str, NDArray[Any]]] = {
    ATTENTION: {name: normal(1, 2, 5, 24) for name in ("query", "key", "value")},
    GELU_QUANTIZE: {
        "input": normal(1, 2, 5, 24),
        "factor": np.full(24, 9, np.float32),
        "zero_point": np.asarray(100, np.uint8),
    },
    ADD_NORM_QUANTIZE: norm_feeds(normal(1, 2, 5, 24), normal(2, 2, 5, 24), 24),
    PRODUCT: product_feeds((2, 5, 24), 24),
}


def kinds_when_optimized(name: str, folder: Path, *, kernels: bool) -> list[tuple[str, str]]:
    """The nodes, with their domains, of the graph that the runtime makes of a call."""
    options = session_options(kernels=kernels)
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    model = call(name, FEEDS[name]).SerializeToString()
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(options.optimized_model_filepath).graph.node
    return [(node.domain, node.op_type) for node in nodes]


@needs_kernels
@pytest.mark.parametrize("name", FEEDS)
def test_the_runtime_takes_the_kernel(name: str, tmp_path: Path) -> None:
    assert kinds_when_optimized(name, tmp_path, kernels=True) == [(DOMAIN, name)]


@pytest.mark.parametrize("name", FEEDS)
def test_without_the_library_the_runtime_takes_standard_operators(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = kinds_when_optimized(name, tmp_path, kernels=False)
    assert found
    assert DOMAIN not in {domain for domain, _ in found}
    monkeypatch.setattr("engine.graph.library", lambda: None)
    assert kinds_when_optimized(name, tmp_path, kernels=True) == found


@needs_kernels
@pytest.mark.parametrize("name", FEEDS)
def test_the_functions_say_what_the_kernels_compute(name: str) -> None:
    model = call(name, FEEDS[name])
    feeds = asked(name, FEEDS[name])
    standard = opened(model, kernels=False).run(None, feeds)
    for expected, found in zip(standard, opened(model).run(None, feeds), strict=True):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        near = 1 if found.dtype == np.uint8 else 2e-3
        assert np.abs(found.astype(np.float64) - expected).max() <= near
        assert len(np.unique(expected)) > 10


def alike(*shape: int) -> dict[str, tuple[int, ...]]:
    return {"query": shape, "key": shape, "value": shape}


WRONG: list[tuple[str, dict[str, tuple[int, ...]], dict[str, int], str]] = [
    (GELU_QUANTIZE, {"factor": (23,)}, {}, "a factor a channel"),
    (GELU_QUANTIZE, {"factor": (25,)}, {}, "a factor a channel"),
    (GELU_QUANTIZE, {"factor": (1,)}, {}, "a factor a channel"),
    (GELU_QUANTIZE, {"factor": (2, 24)}, {}, "a factor a channel"),
    (GELU_QUANTIZE, {"factor": (0, 24)}, {}, "a factor a channel"),
    (GELU_QUANTIZE, {"zero_point": (0,)}, {}, "one zero point"),
    (GELU_QUANTIZE, {"zero_point": (24,)}, {}, "one zero point"),
    (GELU_QUANTIZE, {"input": (1, 1, 1, 2, 24)}, {}, "too many dimensions"),
    (ADD_NORM_QUANTIZE, {"factor": (16,)}, {}, "a factor a channel"),
    (ADD_NORM_QUANTIZE, {"left": (2, 4, 24)}, {}, "shapes that can't be added"),
    (ADD_NORM_QUANTIZE, {"left": (3, 5, 24)}, {}, "shapes that can't be added"),
    (ADD_NORM_QUANTIZE, {"right": (2, 5, 16)}, {}, "can't be added"),
    (ADD_NORM_QUANTIZE, {"right": (2, 5, 1)}, {}, "rows that can't be added"),
    (ADD_NORM_QUANTIZE, {"scale": (16,)}, {}, "a scale and a bias a channel"),
    (ADD_NORM_QUANTIZE, {"bias": (32,)}, {}, "a scale and a bias a channel"),
    (ADD_NORM_QUANTIZE, {"scale": (0, 24)}, {}, "a scale and a bias a channel"),
    (ADD_NORM_QUANTIZE, {"bias": (2, 24)}, {}, "a scale and a bias a channel"),
    (ATTENTION, {}, {"heads": 5}, "query, key and value must be"),
    (ATTENTION, {}, {"heads": 0}, "at least one head"),
    (ATTENTION, {}, {"heads": -1}, "at least one head"),
    (ATTENTION, {"query": (2, 5, 16)}, {}, "query, key and value must be"),
    (ATTENTION, {"query": (3, 5, 24)}, {}, "query, key and value must be"),
    (ATTENTION, {"value": (2, 4, 24)}, {}, "query, key and value must be"),
    (ATTENTION, {"value": (2, 5, 16)}, {}, "query, key and value must be"),
    (ATTENTION, {"key": (5, 24)}, {}, "query, key and value must be"),
    (ATTENTION, {"key": (2, 0, 24), "value": (2, 0, 24)}, {}, "query, key and value must be"),
    *(
        (ATTENTION, alike(2, 5, channels), heads, "head")
        for channels in (0, 24)
        for heads in ({"heads": 10**8}, {"heads": 2**62}, {"heads": 0}, {"heads": -(2**62)})
    ),
    (ATTENTION, alike(2, 5, 0), {}, "head"),
    (PRODUCT, {"input": (2, 5, 23)}, {}, "deep"),
    (PRODUCT, {"input": (2, 5, 25)}, {}, "deep"),
    (PRODUCT, {"input": (2, 5, 0)}, {}, "deep"),
    (PRODUCT, {"input": (1, 1, 1, 2, 24)}, {}, "too many dimensions"),
    (PRODUCT, {"input": (2, 65_537), "weights": (65_537, 24)}, {}, "deep"),
    (PRODUCT, {"weights": (1, 24, 24)}, {}, "two axes"),
    (PRODUCT, {"weights": (24,)}, {}, "two axes"),
    (PRODUCT, {"weights": (0, 24)}, {}, "two axes"),
    (PRODUCT, {"weights": (24, 0)}, {}, "two axes"),
    (PRODUCT, {"weights": (24, 16)}, {}, "a scale and a bias a column"),
    (PRODUCT, {"scale": (1,)}, {}, "a scale and a bias a column"),
    (PRODUCT, {"scale": (0, 24)}, {}, "a scale and a bias a column"),
    (PRODUCT, {"bias": (25,)}, {}, "a scale and a bias a column"),
    (PRODUCT, {"bias": (0,)}, {}, "a scale and a bias a column"),
    (PRODUCT, {"input_scale": (24,)}, {}, "one scale and zero point"),
    (PRODUCT, {"zero_point": (24,)}, {}, "one scale and zero point"),
    (PRODUCT, {"zero_point": (0,)}, {}, "one scale and zero point"),
]


@needs_kernels
@pytest.mark.parametrize(("name", "shapes", "attributes", "reason"), WRONG)
def test_shapes_that_do_not_fit_are_an_error_of_one_line(
    name: str, shapes: dict[str, tuple[int, ...]], attributes: dict[str, int], reason: str
) -> None:
    feeds = dict(FEEDS[name])
    for key, shape in shapes.items():
        feeds[key] = np.ones(shape, feeds[key].dtype)
    with pytest.raises(Exception, match=reason) as caught:  # some when the graph is opened
        opened(call(name, feeds, **attributes)).run(None, asked(name, feeds))
    assert "\n" not in str(caught.value).strip()


@needs_kernels
@pytest.mark.parametrize("name", FEEDS)
def test_a_session_goes_on_after_an_error_and_with_no_rows(name: str) -> None:
    session, feeds = opened(call(name, FEEDS[name])), asked(name, FEEDS[name])
    expected = session.run(None, feeds)
    first, *_ = feeds
    with pytest.raises(Exception, match=name):
        session.run(None, {**feeds, first: feeds[first][:, :, :16]})
    empty = {key: value[:0] if value.ndim == 3 else value for key, value in feeds.items()}
    assert session.run(None, empty)[0].shape == (0, 5, 24)
    for again, before in zip(session.run(None, feeds), expected, strict=True):
        assert np.array_equal(again, before)


@needs_kernels
def test_an_attribute_that_is_missing_is_an_error_at_start() -> None:
    for name in (ATTENTION, ADD_NORM_QUANTIZE):
        model = call(name, FEEDS[name])
        del model.graph.node[0].attribute[:]
        with pytest.raises(Exception, match=r"heads|epsilon"):
            opened(model)


# --- the library


def test_what_is_no_library_is_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for content in (None, b"", b"no library"):
        file = tmp_path / "kernels.so"
        if content is not None:
            file.write_bytes(content)
        monkeypatch.setattr(kernels_module, "_LIBRARY", file)
        assert library.__wrapped__() is None


@pytest.mark.parametrize("usable", [True, False])
def test_a_library_that_the_cpu_cannot_run_is_as_none(
    monkeypatch: pytest.MonkeyPatch, usable: bool
) -> None:
    class Loaded:
        def __init__(self, file: str) -> None:
            assert file == str(kernels_module._LIBRARY)

        def kernels_usable(self) -> int:
            return int(usable)

    monkeypatch.setattr(ctypes, "CDLL", Loaded)
    assert library.__wrapped__() == (kernels_module._LIBRARY if usable else None)
