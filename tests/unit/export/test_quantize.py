from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from engine.pairs import EncodedPair
from export.quantize.babble import babble
from export.quantize.int4 import int4_products
from export.quantize.int8 import int8_products, quantize_columns
from export.quantize.ranges import Ranges, measure
from export.quantize.sensitivity import most_sensitive, relative_errors
from export.quantize.sites import Site, find_sites, name_nodes
from export.quantize.smooth import divisors_of, quantization_of
from export.quantize.tables import quantize_blocks, quantize_rows, smaller_tables
from export.recipes import ALPHAS
from export.scoring import Workbench, score_all
from export.verify import check_batches
from tests.unit.export.conftest import CrossEncoder
from tests.unit.export.tiny_graphs import TEMPLATE, tiny_fp32, tiny_pairs


@pytest.fixture(scope="module")
def fp32(cross_encoder: CrossEncoder) -> onnx.ModelProto:
    return tiny_fp32(cross_encoder)


@pytest.fixture(scope="module")
def sites(fp32: onnx.ModelProto) -> list[Site]:
    return find_sites(fp32)


@pytest.fixture(scope="module")
def pairs(cross_encoder: CrossEncoder) -> list[EncodedPair]:
    return tiny_pairs(cross_encoder)


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path, token_types=True)


@pytest.fixture
def ranges(
    fp32: onnx.ModelProto, sites: list[Site], pairs: list[EncodedPair], bench: Workbench
) -> Ranges:
    return measure(fp32, sites, pairs, bench)


def test_weights_are_within_half_a_step() -> None:
    weights = np.random.default_rng(1).normal(size=(48, 16)).astype(np.float32)
    weights[:, 3] = 0
    rows, row_scales = quantize_rows(weights)
    assert np.abs(rows).max() == 127
    columns, scales = quantize_columns(weights)
    assert (row_scales.shape, scales.shape) == ((48, 1), (16,))
    assert (np.abs(rows * row_scales - weights) <= row_scales / 2 + 1e-7).all()
    assert (np.abs(columns * scales - weights) <= scales / 2 + 1e-7).all()


@pytest.mark.parametrize("rows", [48, 47])
def test_no_two_products_overflow_16_bits(rows: int) -> None:
    weights = np.random.default_rng(2).normal(size=(rows, 64)).astype(np.float32)
    weights[0:2, 0] = weights[:, 0].max()  # two neighbours that are both the largest
    columns = quantize_columns(weights)[0].astype(np.int32)[: rows // 2 * 2].reshape(-1, 2, 64)
    assert (255 * columns.clip(min=0).sum(axis=1) <= np.iinfo(np.int16).max).all()
    assert (255 * columns.clip(max=0).sum(axis=1) >= np.iinfo(np.int16).min).all()
    assert np.abs(columns).max() > 90  # the range is used


def test_blocks_of_4_bits_are_within_a_step() -> None:
    table = np.random.default_rng(3).normal(size=(6, 80)).astype(np.float32)
    table[2, 32:64] = 0
    packed, scales, zero_points = quantize_blocks(table)
    assert (packed.shape, scales.shape, zero_points.shape) == ((6, 40), (6, 3), (6, 2))
    levels = np.stack([packed & 15, packed >> 4], axis=2).reshape(6, 80)
    zeros = np.stack([zero_points & 15, zero_points >> 4], axis=2).reshape(6, 4)[:, :3]
    steps = np.repeat(scales, 32, axis=1)[:, :80]
    restored = (levels - np.repeat(zeros, 32, axis=1)[:, :80].astype(np.float32)) * steps
    assert (np.abs(restored - table) <= steps).all()
    assert (restored[2, 32:64] == 0).all()


def test_all_products_but_that_of_the_logit_are_found(sites: list[Site]) -> None:
    products = [product for site in sites for product in site.products]
    assert len(products) == 2 * 6 + 1
    assert len(sites[0].products) == 3  # query, key and value of the first layer
    assert sites[0].producer == "LayerNormalization"
    assert {site.producer for site in sites} >= {"Attention", "Gelu"}
    assert sum(product.bias is not None for product in products) == 2 * 4 + 1


def test_every_input_has_a_range(ranges: Ranges, sites: list[Site]) -> None:
    assert set(ranges) == {site.value for site in sites}
    hidden = next(site for site in sites if site.producer == "Gelu")
    assert ranges[hidden.value].high.shape == (96,)
    assert ranges[hidden.value].low.min() >= -0.18  # the least value of GELU
    assert ranges[sites[0].value].low.shape == (48,)


def test_smoothing_evens_out_channels_and_changes_no_product(
    ranges: Ranges, sites: list[Site]
) -> None:
    weight = np.random.default_rng(2).normal(size=(48, 7)).astype(np.float32)
    channels = ranges[sites[0].value]
    divisors = divisors_of(channels, [weight], 0.8)
    value = np.random.default_rng(2).normal(size=(5, 48)).astype(np.float32)
    smoothed = (value / divisors) @ (weight * divisors[:, None])
    np.testing.assert_allclose(smoothed, value @ weight, atol=1e-4)
    form = quantization_of(sites[0], channels, [weight], 0.8)
    assert form.divisors is not None
    assert quantization_of(sites[0], channels, [weight], None).divisors is None


@pytest.mark.parametrize("alpha", ALPHAS)
def test_int8_logits_stay_near_fp32_and_rows_apart(
    alpha: float | None,
    fp32: onnx.ModelProto,
    sites: list[Site],
    pairs: list[EncodedPair],
    ranges: Ranges,
    bench: Workbench,
) -> None:
    expected = score_all(bench.open(fp32), pairs)
    graph = bench.open(smaller_tables(int8_products(fp32, sites, ranges, alpha), 8))
    error = score_all(graph, pairs) - expected
    assert float(np.sqrt(np.mean(error**2))) < 0.2 * float(expected.std())
    assert check_batches(graph, pairs) >= 32


def test_what_is_kept_stays_and_all_else_is_quantized(
    fp32: onnx.ModelProto, sites: list[Site], ranges: Ranges
) -> None:
    kept = sites[0].products[1].node
    for model, operator in (
        (int8_products(fp32, sites, ranges, 0.8, {kept}), "MatMulIntegerToFloat"),
        (int4_products(fp32, sites, {kept}), "MatMulNBits"),
    ):
        kinds = [node.op_type for node in model.graph.node]
        assert kinds.count(operator) == 2 * 6 + 1 - 1
        assert kinds.count("MatMul") == 2  # that, and the logit's
        assert kept in [node.name for node in model.graph.node]
    assert not [node for node in fp32.graph.node if node.domain]  # the original is untouched


def test_the_product_that_suffers_most_is_found(
    fp32: onnx.ModelProto, sites: list[Site], pairs: list[EncodedPair], bench: Workbench
) -> None:
    spoilt = sites[1].products[0].node

    def quantize(
        model: onnx.ModelProto, sites: list[Site], keep: frozenset[str]
    ) -> onnx.ModelProto:
        changed = int4_products(model, sites, keep)
        for node in changed.graph.node:
            if node.op_type == "MatMulNBits" and node.name.startswith(spoilt):
                scales = next(t for t in changed.graph.initializer if t.name == node.input[2])
                wrong = numpy_helper.from_array(numpy_helper.to_array(scales) * 1.5, scales.name)
                scales.CopyFrom(wrong)
        return changed

    errors = relative_errors(fp32, sites, quantize, pairs[:8], bench)  # type: ignore[arg-type]
    assert len(errors) == 2 * 6 + 1
    assert all(0 < error < 0.3 for node, error in errors.items() if node != spoilt)
    assert most_sensitive(errors, 0.01) == {spoilt}
    assert len(most_sensitive(errors, 0.5)) == 6


def test_a_graph_with_nested_graphs_keeps_what_they_read() -> None:
    """A constant that only a branch reads is no rubbish."""
    branch = helper.make_graph(
        [helper.make_node("Identity", ["inner"], ["x"])],
        "branch",
        [],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
    )
    graph = helper.make_graph(
        [helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch)],
        "graph",
        [helper.make_tensor_value_info("condition", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.ones(1, np.float32), "inner")],
    )
    model = helper.make_model(graph)
    name_nodes(model)
    assert [tensor.name for tensor in smaller_tables(model, 8).graph.initializer] == ["inner"]


def test_random_pairs_are_the_same_each_time_and_fit(
    pairs: list[EncodedPair], cross_encoder: CrossEncoder
) -> None:
    tokenizer = Tokenizer.from_file(str(cross_encoder("bert") / "tokenizer.json"))
    again = babble(tokenizer, TEMPLATE)
    assert [pair.ids.tolist() for pair in pairs] == [pair.ids.tolist() for pair in again]
    assert {len(pair.ids) for pair in pairs} >= {12, 64}
    assert all(pair.ids[0] == 2 and pair.ids[-1] == 3 for pair in pairs)
