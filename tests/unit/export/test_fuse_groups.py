"""Which groups of nodes become calls of kernels, and which are left alone."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from engine.kernels import ADD_NORM_QUANTIZE, ATTENTION, GELU_QUANTIZE, PRODUCT
from export.quantize.fuse import fused
from tests.unit.export.fuse_graphs import (
    COMPUTED,
    GELU,
    NORM,
    SUM,
    calls,
    check_same,
    graph,
    node,
    outputs_of,
    product,
    times,
)


@pytest.mark.parametrize("divided", [False, True])
def test_a_gelu_with_its_rounding_is_one_call(divided: bool) -> None:
    model = graph([GELU, *product("gelu", divided=divided)], "product")
    check_same(model, {GELU_QUANTIZE: 1, PRODUCT: 1})


@pytest.mark.parametrize("divided", [False, True])
def test_a_norm_that_is_also_read_unrounded_is_one_call(divided: bool) -> None:
    nodes = [*SUM, NORM, *product("norm", divided=divided), node("Neg", ["norm"], "residual")]
    check_same(graph(nodes, "product", "residual"), {ADD_NORM_QUANTIZE: 1, PRODUCT: 1})


def test_a_norm_that_comes_first_adds_what_is_looked_up_to_each_sequence() -> None:
    """Positions are one row for all sequences, as the embeddings of an encoder may be."""
    nodes = [
        node("Neg", ["a"], "words"),
        node("Gather", ["table", "places"], "positions"),
        node("Add", ["words", "positions"], "sum"),
        NORM,
        *product("norm"),
    ]
    check_same(graph(nodes, "product", "norm"), {ADD_NORM_QUANTIZE: 1, PRODUCT: 1})
    nodes[2] = node("Add", ["positions", "words"], "sum")
    check_same(graph(nodes, "product", "norm"), {ADD_NORM_QUANTIZE: 1, PRODUCT: 1})


LEVELS = [*SUM, NORM, node("QuantizeLinear", ["norm", "step", "zero"], "q")]
ROUNDED = [node("Neg", ["a"], "left"), node("QuantizeLinear", ["left", "step", "zero"], "q")]


@pytest.mark.parametrize("more", [[], [""], ["", "bias"]])
def test_a_product_with_a_bias_or_without_is_one_call(more: list[str]) -> None:
    model = graph([*ROUNDED, times("q", "product", *more)], "product")
    check_same(model, {PRODUCT: 1})
    (call,) = (each for each in fused(model).graph.node if each.op_type == PRODUCT)
    (bias,) = (each for each in fused(model).graph.initializer if each.name == call.input[5])
    assert numpy_helper.to_array(bias).any() == ("bias" in more)


def test_products_without_a_bias_have_zeros_of_their_own() -> None:
    """Their weights have different columns."""
    deep = node("Tile", ["left", "as_deep"], "tiled")
    nodes = [
        *ROUNDED,
        times("q"),
        deep,
        node("QuantizeLinear", ["tiled", "step", "zero"], "more_q"),
        times("more_q", "more", weight="deep_weight", weight_step="three_steps"),
    ]
    check_same(graph(nodes, "product", "more"), {PRODUCT: 2})


@pytest.mark.parametrize("zero", ["weight_zero", "weight_zeros"])
def test_a_product_whose_weights_have_a_zero_point_stays_as_it_is(zero: str) -> None:
    for more in ([zero], [zero, "bias"]):
        check_same(graph([*ROUNDED, times("q", "product", *more)], "product"), {})
        nodes = [*LEVELS, times("q", "product", *more)]
        check_same(graph(nodes, "product", "norm"), {ADD_NORM_QUANTIZE: 1})


@pytest.mark.parametrize(
    ("repeats", "weight", "products"),
    [("as_deep", "deep_weight", 1), ("deeper", "deeper_weight", 0)],
)
def test_a_product_whose_sum_may_not_fit_into_32_bits_stays_as_it_is(
    repeats: str, weight: str, products: int
) -> None:
    nodes = [
        node("Neg", ["a"], "left"),
        node("Tile", ["left", repeats], "tiled"),
        node("QuantizeLinear", ["tiled", "step", "zero"], "q"),
        times("q", weight=weight, weight_step="three_steps"),
    ]
    check_same(graph(nodes, "product"), {PRODUCT: products} if products else {})


@pytest.mark.parametrize(
    "nodes",
    [
        [*ROUNDED, times("q", weight_step="one_step")],
        [*ROUNDED, times("q", "product", "", "", weight_step="weight_step")],
        [*ROUNDED, node("MatMulIntegerToFloat", ["q", "weight", "step", "weight_step"], "product")],
        [*ROUNDED, times("q", weight="unsigned")],
        [*ROUNDED, times("q", weight="stack", weight_step="one_step")],
        [
            node("QuantizeLinear", ["a", "step", "signed_zero"], "q"),
            times("q", zero="signed_zero"),
        ],
    ],
    ids=["one step", "empty inputs", "no zero point", "unsigned", "stack", "signed"],
)
def test_a_product_of_another_form_computes_what_it_did(nodes: list[onnx.NodeProto]) -> None:
    check_same(graph(nodes, "product"), {}, {PRODUCT: 1})


@pytest.mark.parametrize(
    "ending", [LEVELS, [GELU, node("QuantizeLinear", ["gelu", "step", "zero"], "q")]]
)
def test_a_rounding_that_something_else_reads_stays_as_it_is(ending: list[onnx.NodeProto]) -> None:
    again = node("DequantizeLinear", ["q", "step", "zero"], "again")
    check_same(graph([*ending, times("q"), again], "product", "again"), {PRODUCT: 1})
    check_same(graph([*ending, again], "again"), {})


@pytest.mark.parametrize("before", [[GELU], [*SUM, NORM]], ids=["gelu", "norm"])
@pytest.mark.parametrize(
    "kind", ["no zero point", "signed", "by channel", "by token", "stack", "divided by token"]
)
def test_a_rounding_of_another_form_computes_what_it_did(
    before: list[onnx.NodeProto], kind: str
) -> None:
    value = before[-1].output[0]
    rounding, last = node("QuantizeLinear", [value, "step", "zero"], "q"), times("q")
    if kind == "no zero point":
        rounding, last = node("QuantizeLinear", [value, "step"], "q"), times("q", zero="")
    elif kind == "signed":
        rounding = node("QuantizeLinear", [value, "step", "signed_zero"], "q")
        last = times("q", zero="signed_zero")
    elif kind == "by channel":
        rounding = node("QuantizeLinear", [value, "steps", "zeros"], "q", axis=-1)
    elif kind == "by token":
        rounding = node("QuantizeLinear", [value, "five_steps", "five_zeros"], "q", axis=1)
    elif kind == "stack":
        last = times("q", weight="stack", weight_step="one_step")
    else:
        before = [*before, node("Mul", [value, "table_scale"], "divided")]
        rounding = node("QuantizeLinear", ["divided", "step", "zero"], "q")
    model = graph([*before, rounding, last], "product")
    check_same(
        model,
        {},
        {PRODUCT: 1},
        *(
            {PRODUCT: some, kind: 1}
            for some in (0, 1)
            for kind in (GELU_QUANTIZE, ADD_NORM_QUANTIZE)
        ),
    )


def test_a_rounding_for_several_products_is_one_call() -> None:
    nodes = [*LEVELS, times("q", "one"), times("q", "two", "", "bias"), times("q", "three")]
    check_same(graph(nodes, "one", "two", "three", "norm"), {ADD_NORM_QUANTIZE: 1, PRODUCT: 3})


@pytest.mark.parametrize("divided", ["first", "second", "both", "none"])
def test_of_two_roundings_of_a_norm_none_is_lost(divided: str) -> None:
    nodes = [*SUM, NORM]
    for name in ("first", "second"):
        value = "norm"
        if divided in (name, "both"):
            nodes.append(node("Mul", ["norm", "by"], f"{name}_divided"))
            value = f"{name}_divided"
        nodes.append(node("QuantizeLinear", [value, "step", "zero"], f"{name}_q"))
        nodes.append(times(f"{name}_q", name))
    check_same(graph(nodes, "first", "second"), {ADD_NORM_QUANTIZE: 1, PRODUCT: 2})
    check_same(graph(nodes, "first", "second", "norm"), {ADD_NORM_QUANTIZE: 1, PRODUCT: 2})


def test_of_two_roundings_of_a_gelu_none_is_lost() -> None:
    nodes = [
        GELU,
        *(node("QuantizeLinear", ["gelu", "step", "zero"], f"{name}_q") for name in ("one", "two")),
        *(times(f"{name}_q", name) for name in ("one", "two")),
    ]
    check_same(graph(nodes, "one", "two"), {PRODUCT: 2})


@pytest.mark.parametrize(
    "norm",
    [
        node(
            "LayerNormalization", ["sum", "table_scale", "table_bias"], "norm", axis=1, epsilon=0.1
        ),
        node(
            "LayerNormalization", ["sum", "table_scale", "table_bias"], "norm", axis=-2, epsilon=0.1
        ),
        node("LayerNormalization", ["sum", "table_scale"], "norm", axis=1),
    ],
    ids=["axis 1", "axis -2", "axis 1 without bias"],
)
def test_a_norm_of_several_axes_stays_as_it_is(norm: onnx.NodeProto) -> None:
    check_same(graph([*SUM, norm, *product("norm")], "product", "norm"), {PRODUCT: 1})


@pytest.mark.parametrize(
    ("inputs", "attributes"),
    [
        (["sum", "scale"], {"axis": -1, "epsilon": 1e-5}),
        (["sum", "scale", "bias"], {"axis": -1}),
        (["sum", "scale", "bias"], {"axis": 2, "epsilon": 1e-5}),
        (["sum", "scale", "bias"], {"epsilon": 0.3}),
        (["sum", "scale", "bias"], {}),
        (["sum", "scale", "bias"], {"axis": -1, "epsilon": 0.3}),
        (["sum", "scale", "bias"], {"axis": -1, "epsilon": 1e-5, "stash_type": 1}),
    ],
)
def test_a_norm_of_another_form_computes_what_it_did(
    inputs: list[str], attributes: dict[str, float]
) -> None:
    norm = node("LayerNormalization", inputs, "norm", **attributes)
    model = graph([*SUM, norm, *product("norm")], "product", "norm")
    check_same(model, {PRODUCT: 1}, {PRODUCT: 1, ADD_NORM_QUANTIZE: 1})


def test_a_norm_whose_bias_is_left_empty_stays_as_it_is() -> None:
    """ONNX Runtime 1.32 crashes on it, so it is not run."""
    norm = node("LayerNormalization", ["sum", "scale", ""], "norm", axis=-1, epsilon=1e-5)
    assert calls(fused(graph([*SUM, norm, *product("norm")], "product"))) == {PRODUCT: 1}


def test_a_norm_whose_mean_is_also_given_stays_as_it_is() -> None:
    norm = helper.make_node(
        "LayerNormalization", ["sum", "scale", "bias"], ["norm", "mean"], epsilon=1e-5
    )
    nodes = [*SUM, norm, *product("norm"), node("Add", ["norm", "mean"], "total")]
    check_same(graph(nodes, "product", "total"), {PRODUCT: 1})


HEADS = {"q_num_heads": 4, "kv_num_heads": 4}


def test_attention_is_one_call() -> None:
    model = graph([node("Attention", ["a", "b", "c"], "out", **HEADS)], "out")
    changed = fused(model)
    assert calls(changed) == {ATTENTION: 1}
    expected = outputs_of(model, kernels=False)[0]
    for kernels in (False, True):
        np.testing.assert_allclose(outputs_of(changed, kernels=kernels)[0], expected, atol=2e-3)


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([node("Attention", ["a", "b", "c", "mask"], "out", **HEADS)], ["out"]),
        ([node("Attention", ["a", "b", "c"], "out", is_causal=1, **HEADS)], ["out"]),
        ([node("Attention", ["a", "b", "c"], "out", scale=0.3, **HEADS)], ["out"]),
        ([GELU, *product("gelu")], ["product", "gelu"]),
        ([GELU, *product("gelu"), node("Neg", ["gelu"], "again")], ["product", "again"]),
        ([GELU, *product("gelu", divided=True)], ["product", "gelu_divided"]),
        ([node("Gelu", ["a"], "gelu", approximate="tanh"), *product("gelu")], ["product"]),
        ([node("Relu", ["a"], "relu"), *product("relu")], ["product"]),
        (product("a"), ["product"]),
        ([*SUM, NORM, *product("norm")], ["product", "sum"]),
        ([*SUM, NORM, node("Neg", ["norm"], "out")], ["out"]),
        ([*COMPUTED, node("Add", ["left", "row"], "sum"), NORM, *product("norm")], ["product"]),
        ([node("Sub", ["a", "b"], "sum"), NORM, *product("norm")], ["product"]),
        ([node("Neg", ["a"], "out")], ["out"]),
    ],
    ids=[
        "mask",
        "causal",
        "scale",
        "gelu is an output",
        "gelu read twice",
        "divided gelu read twice",
        "tanh",
        "relu",
        "rounded input",
        "sum read twice",
        "not rounded",
        "constant added",
        "no sum",
        "nothing",
    ],
)
def test_what_no_kernel_computes_stays_as_it_is(
    nodes: list[onnx.NodeProto], outputs: list[str]
) -> None:
    """Of the nodes around a product: that itself is a call."""
    model = graph(nodes, *outputs)
    products = sum(bool(each.domain) for each in nodes)
    assert calls(fused(model)) == ({PRODUCT: products} if products else {})
    if not products:
        assert fused(model) == model
    kept = [each for each in model.graph.node if not each.domain]
    assert [each for each in fused(model).graph.node if not each.domain] == kept
    expected = outputs_of(model, kernels=False)
    for found, old in zip(outputs_of(fused(model), kernels=True), expected, strict=True):
        np.testing.assert_allclose(found, old, atol=1e-4)
