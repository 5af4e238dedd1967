"""Calls of kernels in a graph compute what the nodes did that they stand for."""

from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from engine.kernels import ADD_NORM_QUANTIZE, ATTENTION, DOMAIN, GELU_QUANTIZE, PRODUCT
from engine.pairs import EncodedPair
from export.quantize.fuse import fused
from export.quantize.int8 import int8_products
from export.quantize.ranges import measure
from export.quantize.sites import find_sites
from export.quantize.tables import smaller_tables
from export.scoring import Workbench, score_all
from export.verify import check_batches
from tests.unit.export.conftest import CrossEncoder
from tests.unit.export.fuse_graphs import calls
from tests.unit.export.tiny_graphs import tiny_fp32, tiny_pairs

Quantized = Callable[[float | None], onnx.ModelProto]
smoothed_or_not = pytest.mark.parametrize("alpha", [0.8, None])


@pytest.fixture(scope="module")
def fp32(cross_encoder: CrossEncoder) -> onnx.ModelProto:
    return tiny_fp32(cross_encoder)


@pytest.fixture(scope="module")
def pairs(cross_encoder: CrossEncoder) -> list[EncodedPair]:
    return tiny_pairs(cross_encoder)


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
