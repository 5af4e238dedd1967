"""Calls of kernels in a graph compute what the nodes did that they stand for."""

from collections import Counter
from collections.abc import Callable, Sequence
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
from engine.kernels import ADD_NORM_QUANTIZE, ATTENTION, DOMAIN, GELU_QUANTIZE
from engine.pairs import EncodedPair
from export.checkpoint import open_checkpoint
from export.families import encoder_of
from export.graph_writer import IR_VERSION, MICROSOFT, OPSET
from export.merge import load_merged
from export.quantize.babble import babble
from export.quantize.fuse import fused
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
    """How often each kernel is called between the products."""
    called = Counter(node.op_type for node in model.graph.node if node.domain == DOMAIN)
    kinds = (ATTENTION, GELU_QUANTIZE, ADD_NORM_QUANTIZE)
    return Counter({kind: called[kind] for kind in kinds if kind in called})


def spread(values: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(values**2)))


@smoothed_or_not
def test_an_encoder_s_attention_gelus_and_norms_become_calls(
    alpha: float | None, int8: Quantized
) -> None:
    before = int8(alpha).SerializeToString(deterministic=True)
    model = fused(int8(alpha))
    onnx.checker.check_model(model)
    assert calls(model) == {ATTENTION: 2, GELU_QUANTIZE: 2, ADD_NORM_QUANTIZE: 5}
    called = {node.op_type for node in model.graph.node if node.domain == DOMAIN}
    assert {function.name for function in model.functions} == called
    # What is left to round is the first token of the last layer, and what attention gives.
    kinds = Counter(node.op_type for node in model.graph.node if node.domain != DOMAIN)
    assert kinds["QuantizeLinear"] == 3
    assert not {"Gelu", "LayerNormalization", "Attention"} & set(kinds)
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


def product(value: str, *, divided: bool = False) -> list[onnx.NodeProto]:
    """Nodes that round a value and multiply it, as `export.quantize.int8` writes them."""
    before = [node("Mul", [value, "by"], f"{value}_divided")] if divided else []
    return [
        *before,
        node("QuantizeLinear", [before[0].output[0] if before else value, "step", "zero"], "q"),
        node("MatMulIntegerToFloat", ["q", "weight", "step", "weight_step", "zero"], "product"),
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
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in outputs],
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


def check_same(model: onnx.ModelProto, expected: Counter[str]) -> None:
    """Check what is called, and that it computes the same with kernels and without."""
    changed = fused(model)
    onnx.checker.check_model(changed)
    assert calls(changed) == expected
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
    check_same(model, Counter({GELU_QUANTIZE: 1}))


@pytest.mark.parametrize("divided", [False, True])
def test_a_norm_that_is_also_read_unrounded_is_one_call(divided: bool) -> None:
    nodes = [*SUM, NORM, *product("norm", divided=divided), node("Neg", ["norm"], "residual")]
    check_same(graph(nodes, "product", "residual"), Counter({ADD_NORM_QUANTIZE: 1}))


def test_a_norm_that_comes_first_adds_what_is_looked_up_to_each_sequence() -> None:
    """Positions are one row for all sequences, as the embeddings of an encoder may be."""
    nodes = [
        node("Neg", ["a"], "words"),
        node("Gather", ["table", "places"], "positions"),
        node("Add", ["words", "positions"], "sum"),
        NORM,
        *product("norm"),
    ]
    check_same(graph(nodes, "product", "norm"), Counter({ADD_NORM_QUANTIZE: 1}))
    nodes[2] = node("Add", ["positions", "words"], "sum")
    check_same(graph(nodes, "product", "norm"), Counter({ADD_NORM_QUANTIZE: 1}))


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
    model = graph(nodes, *outputs)
    assert not calls(fused(model))
    if not any(each.domain for each in nodes):
        assert fused(model) == model
    kept = {each.op_type for each in nodes if not each.domain}
    assert kept <= {each.op_type for each in fused(model).graph.node}
    expected = outputs_of(model, kernels=False)
    for found, old in zip(outputs_of(fused(model), kernels=True), expected, strict=True):
        np.testing.assert_allclose(found, old, atol=1e-4)
