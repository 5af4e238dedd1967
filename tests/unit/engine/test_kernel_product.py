"""The kernel of int8 products is exact but for float32."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

from engine.kernels import PRODUCT
from tests.unit.engine.kernel_calls import (
    CONSTANTS,
    Array,
    Exact,
    Feeds,
    asked,
    call,
    needs_kernels,
    opened,
    product_feeds,
)


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
