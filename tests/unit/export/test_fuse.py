"""Calls of kernels in a graph compute what the nodes did that they stand for."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from engine.graph import session_options
from engine.kernels import ADD_NORM_QUANTIZE, ATTENTION, DOMAIN, GELU_QUANTIZE, PRODUCT
from engine.pairs import EncodedPair
from export.checkpoint import open_checkpoint
from export.families import encoder_of
from export.graph_writer import IR_VERSION, MICROSOFT, OPSET
from export.merge import load_merged
from export.quantize.babble import babble
from export.quantize.fuse import MOST_DEPTH, fused
from export.quantize.int8 import int8_products
from export.quantize.ranges import measure
from export.quantize.sites import find_sites, name_nodes
from export.quantize.tables import smaller_tables
from export.scoring import Workbench, score_all
from export.trimmed import build
from export.verify import check_batches
from schemas.manifests import PairTemplate
from tests.unit.export.conftest import CrossEncoder

TEMPLATE = PairTemplate(
    prefix=(2,), infix=(3,), suffix=(3,), max_tokens=64, max_query_tokens=20, token_types=True
)
Quantized = Callable[[float | None], onnx.ModelProto]
smoothed_or_not = pytest.mark.parametrize("alpha", [0.8, None])
WIDTH = 32


@pytest.fixture(scope="module")
def fp32(cross_encoder: CrossEncoder) -> onnx.ModelProto:
    weights = encoder_of(load_merged(open_checkpoint(str(cross_encoder("bert"))), None))
    assert weights is not None
    return build(weights)


@pytest.fixture(scope="module")
def pairs(cross_encoder: CrossEncoder) -> list[EncodedPair]:
    tokenizer = Tokenizer.from_file(str(cross_encoder("bert") / "tokenizer.json"))
    return babble(tokenizer, TEMPLATE)


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path, token_types=True)


@pytest.fixture(scope="module")
def int8(
    fp32: onnx.ModelProto, pairs: list[EncodedPair], tmp_path_factory: pytest.TempPathFactory
) -> Quantized:
    """Gives the int8 graph, smoothed with an alpha, or not."""
    sites = find_sites(fp32)
    scratch = tmp_path_factory.mktemp("ranges")
    ranges = measure(fp32, sites, pairs, Workbench(scratch, token_types=True))
    return cache(lambda alpha: smaller_tables(int8_products(fp32, sites, ranges, alpha), 8))


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.graph.library", lambda: None)


def calls(model: onnx.ModelProto) -> Counter[str]:
    """How often each kernel is called."""
    return Counter(node.op_type for node in model.graph.node if node.domain == DOMAIN)


def spread(values: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(values**2)))


@smoothed_or_not
def test_an_encoder_s_attention_products_gelus_and_norms_become_calls(
    alpha: float | None, int8: Quantized
) -> None:
    before = int8(alpha).SerializeToString(deterministic=True)
    products = Counter(node.op_type for node in int8(alpha).graph.node)["MatMulIntegerToFloat"]
    model = fused(int8(alpha))
    onnx.checker.check_model(model)
    between = {ATTENTION: 2, GELU_QUANTIZE: 2, ADD_NORM_QUANTIZE: 5}
    assert products >= 12  # four around attention and two behind it, in each layer
    assert calls(model) == {PRODUCT: products, **between}
    assert {function.name for function in model.functions} == set(calls(model))
    # What is left to round is the first token of the last layer, and what attention gives.
    kinds = Counter(node.op_type for node in model.graph.node if node.domain != DOMAIN)
    assert kinds["QuantizeLinear"] == 3
    assert not {"Gelu", "LayerNormalization", "Attention", "MatMulIntegerToFloat"} & set(kinds)
    read = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= read
    assert int8(alpha).SerializeToString(deterministic=True) == before


@smoothed_or_not
@pytest.mark.usefixtures("no_kernels")
def test_standard_operators_give_a_fused_graph_the_logits_it_had(
    alpha: float | None,
    fp32: onnx.ModelProto,
    int8: Quantized,
    pairs: list[EncodedPair],
    bench: Workbench,
) -> None:
    """Divisor and scale are one factor now, so a value between two levels may take the other."""
    expected = score_all(bench.open(int8(alpha)), pairs)
    cost = spread(expected - score_all(bench.open(fp32), pairs))
    graph = bench.open(fused(int8(alpha)))
    assert spread(score_all(graph, pairs) - expected) < 0.1 * cost
    assert check_batches(graph, pairs) >= 32


@smoothed_or_not
@pytest.mark.usefixtures("kernels")
def test_kernels_give_a_fused_graph_nearly_the_logits_it_had_and_keep_rows_apart(
    alpha: float | None,
    fp32: onnx.ModelProto,
    int8: Quantized,
    pairs: list[EncodedPair],
    bench: Workbench,
) -> None:
    """Attention's rounding moves some values to the next level, and no further from fp32.

    Levels that had nothing to do with one another would make the distance 1.4 times int8's own.
    """
    original = score_all(bench.open(fp32), pairs)
    expected = score_all(bench.open(int8(alpha)), pairs)
    cost = spread(expected - original)
    graph = bench.open(fused(int8(alpha)))
    found = score_all(graph, pairs)
    assert found.tolist() != expected.tolist()  # else they were not used
    assert spread(found - expected) < cost
    assert spread(found - original) < 1.25 * cost
    assert check_batches(graph, pairs) >= 32


def test_an_fp32_graph_has_calls_of_attention_only(fp32: onnx.ModelProto) -> None:
    model = fused(fp32)
    onnx.checker.check_model(model)
    assert calls(model) == {ATTENTION: 2}
    assert [function.name for function in model.functions] == [ATTENTION]


@pytest.mark.usefixtures("kernels")
def test_attention_of_kernels_moves_no_logit_of_fp32_by_a_thousandth_of_their_spread(
    fp32: onnx.ModelProto, pairs: list[EncodedPair], bench: Workbench
) -> None:
    expected = score_all(bench.open(fp32), pairs)
    found = score_all(bench.open(fused(fp32)), pairs)
    assert found.tolist() != expected.tolist()
    assert np.abs(found - expected).max() < 1e-3 * expected.std()


def test_a_fused_graph_has_nothing_more_to_fuse(int8: Quantized) -> None:
    model = fused(int8(0.8))
    assert fused(model) == model


# --- graphs of a few nodes


def node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    domain = MICROSOFT if kind == "MatMulIntegerToFloat" else ""
    return helper.make_node(kind, inputs, [output], domain=domain, **attributes)


def times(rounded: str, output: str = "product", *more: str, **other: str) -> onnx.NodeProto:
    """A product, of weights and steps that `other` may name, with what may come `more`."""
    names = {"weight": "weight", "step": "step", "weight_step": "weight_step", "zero": "zero"}
    return node("MatMulIntegerToFloat", [rounded, *(names | other).values(), *more], output)


def product(value: str, *, divided: bool = False) -> list[onnx.NodeProto]:
    """Nodes that round a value and multiply it, as `export.quantize.int8` writes them."""
    before = [node("Mul", [value, "by"], f"{value}_divided")] if divided else []
    return [
        *before,
        node("QuantizeLinear", [before[0].output[0] if before else value, "step", "zero"], "q"),
        times("q"),
    ]


def graph(nodes: Sequence[onnx.NodeProto], *outputs: str) -> onnx.ModelProto:
    """A model of float inputs a, b and c [rows, tokens, WIDTH]."""
    chance = np.random.default_rng(1)
    constants = {
        "by": chance.uniform(0.5, 2, WIDTH).astype(np.float32),
        "step": np.float32(0.03),
        "zero": np.uint8(120),
        "weight": chance.integers(-99, 99, (WIDTH, WIDTH)).astype(np.int8),
        "weight_step": np.full(WIDTH, 0.01, np.float32),
        "scale": chance.uniform(0.5, 2, WIDTH).astype(np.float32),
        "bias": chance.normal(size=WIDTH).astype(np.float32),
        "mask": np.zeros((5, 5), np.float32),
        "none": np.zeros(0, np.int64),
        "table": chance.normal(size=(50, WIDTH)).astype(np.float32),
        "row": chance.normal(size=WIDTH).astype(np.float32),
        "places": np.arange(5),
        "weight_zero": np.int8(7),
        "weight_zeros": chance.integers(-9, 9, WIDTH).astype(np.int8),
        "one_step": np.float32(0.01),
        "stack": chance.integers(-99, 99, (1, WIDTH, WIDTH)).astype(np.int8),
        "unsigned": chance.integers(0, 99, (WIDTH, WIDTH)).astype(np.uint8),
        "signed_zero": np.int8(-8),
        "table_scale": chance.uniform(0.5, 2, (5, WIDTH)).astype(np.float32),
        "table_bias": chance.normal(size=(5, WIDTH)).astype(np.float32),
        "as_deep": np.asarray([1, 1, MOST_DEPTH // WIDTH]),
        "deeper": np.asarray([1, 1, MOST_DEPTH // WIDTH + 1]),
        "deep_weight": chance.integers(-9, 9, (MOST_DEPTH, 3)).astype(np.int8),
        "deeper_weight": chance.integers(-9, 9, (MOST_DEPTH + WIDTH, 3)).astype(np.int8),
        "steps": chance.uniform(0.02, 0.04, WIDTH).astype(np.float32),
        "zeros": np.full(WIDTH, 120, np.uint8),
        "five_steps": chance.uniform(0.02, 0.04, 5).astype(np.float32),
        "five_zeros": np.full(5, 120, np.uint8),
        "three_steps": np.full(3, 0.001, np.float32),
    }
    read = {name for each in nodes for name in each.input}
    shape: Sequence[str | int] = ["rows", "tokens", WIDTH]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "graph",
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name in sorted(read & {"a", "b", "c"})
            ],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 3)
                for name in outputs
            ],
            [
                numpy_helper.from_array(np.asarray(value), name)
                for name, value in constants.items()
                if name in read
            ],
        ),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)],
        ir_version=IR_VERSION,
    )
    name_nodes(model)
    return model


def outputs_of(model: onnx.ModelProto, *, kernels: bool) -> list[NDArray[Any]]:
    options = session_options(kernels=kernels)
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {
        each.name: np.random.default_rng(seed).normal(size=(3, 5, WIDTH)).astype(np.float32)
        for seed, each in enumerate(session.get_inputs())
    }
    return list(session.run(None, feeds))


def check_same(model: onnx.ModelProto, *expected: Mapping[str, int]) -> None:
    """Check what is called, one of `expected`, and that it computes the same in any case."""
    changed = fused(model)
    onnx.checker.check_model(changed)
    assert calls(changed) in [Counter(each) for each in expected]
    before = outputs_of(model, kernels=False)
    for kernels in (False, True):
        for old, new in zip(before, outputs_of(changed, kernels=kernels), strict=True):
            # A level more or less of a few values: step * weight * weight_step.
            assert old.shape == new.shape
            assert np.abs(old - new).max() < 2 * 0.03 * 99 * 0.01
            assert np.median(np.abs(old - new)) < 1e-4
            assert old.std() > 0.5


GELU = node("Gelu", ["a"], "gelu")
NORM = node("LayerNormalization", ["sum", "scale", "bias"], "norm", axis=-1, epsilon=1e-5)
COMPUTED = [node("Neg", ["a"], "left"), node("Neg", ["b"], "right")]
SUM = [*COMPUTED, node("Add", ["left", "right"], "sum")]


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
