from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from engine.pairs import EncodedPair
from export.calibration import load_pairs
from export.checkpoint import open_checkpoint
from export.errors import CalibrationError, VerificationError
from export.families import Encoder, encoder_of
from export.int8.babble import babble
from export.int8.choose import ALPHAS, int8_graph
from export.int8.products import quantize_columns, quantize_rows
from export.int8.ranges import Ranges, measure
from export.int8.smooth import smooth
from export.merge import load_merged
from export.scoring import Workbench, score_all
from export.trimmed import SITES, Fp32Products, build
from export.verify import agreement, check_batches
from schemas.manifests import PairTemplate
from tests.unit.export.conftest import CrossEncoder

TEMPLATE = PairTemplate(
    prefix=(2,), infix=(3,), suffix=(3,), max_tokens=64, max_query_tokens=20, token_types=True
)


@pytest.fixture(scope="module")
def encoder(cross_encoder: CrossEncoder) -> Encoder:
    weights = encoder_of(load_merged(open_checkpoint(str(cross_encoder("bert"))), None))
    assert weights is not None
    return weights


@pytest.fixture(scope="module")
def pairs(cross_encoder: CrossEncoder) -> list[EncodedPair]:
    tokenizer = Tokenizer.from_file(str(cross_encoder("bert") / "tokenizer.json"))
    return babble(tokenizer, TEMPLATE)


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path, token_types=True)


@pytest.fixture
def ranges(encoder: Encoder, pairs: list[EncodedPair], bench: Workbench) -> Ranges:
    return measure(encoder, pairs, bench)


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


def test_every_input_has_a_range(ranges: Ranges, encoder: Encoder) -> None:
    assert set(ranges) == {(layer, site) for layer in range(2) for site in SITES}
    assert ranges[0, "attention"].low.shape == (48,)
    assert ranges[1, "hidden"].high.shape == (96,)
    assert ranges[0, "hidden"].low.min() >= -0.18  # the least value of GELU


def test_smoothing_alone_changes_no_product(ranges: Ranges, encoder: Encoder) -> None:
    smoothed = smooth(encoder, ranges, 0.8)
    value = np.random.default_rng(2).normal(size=(5, 48)).astype(np.float32)
    divisors = smoothed.sites[0, "feed_forward"].divisors
    assert divisors is not None
    np.testing.assert_allclose(
        (value / divisors) @ smoothed.encoder.layers[0].up.weight,
        value @ encoder.layers[0].up.weight,
        atol=1e-4,
    )


@pytest.mark.parametrize("alpha", ALPHAS)
def test_logits_stay_near_fp32_and_rows_apart(
    alpha: float | None,
    encoder: Encoder,
    pairs: list[EncodedPair],
    ranges: Ranges,
    bench: Workbench,
) -> None:
    expected = score_all(bench.open(build(encoder, Fp32Products())), pairs)
    graph = bench.open(int8_graph(encoder, ranges, alpha))
    error = score_all(graph, pairs) - expected
    assert float(np.sqrt(np.mean(error**2))) < 0.2 * float(expected.std())
    assert check_batches(graph, pairs) >= 32


def test_random_pairs_are_the_same_each_time_and_fit(
    pairs: list[EncodedPair], cross_encoder: CrossEncoder
) -> None:
    tokenizer = Tokenizer.from_file(str(cross_encoder("bert") / "tokenizer.json"))
    again = babble(tokenizer, TEMPLATE)
    assert [pair.ids.tolist() for pair in pairs] == [pair.ids.tolist() for pair in again]
    assert {len(pair.ids) for pair in pairs} >= {12, 64}
    assert all(pair.ids[0] == 2 and pair.ids[-1] == 3 for pair in pairs)


def test_built_in_pairs_are_many_and_share_no_query() -> None:
    pairs = load_pairs(None)
    assert len(pairs.measure) >= 100
    assert len(pairs.judge) >= 100
    assert not {query for query, _ in pairs.measure} & {query for query, _ in pairs.judge}
    assert pairs == load_pairs(None)


def test_own_pairs_are_read_and_wrong_lines_named(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text('{"query": "a", "document": "b"}\n\n{"query": "c", "document": "d"}\n')
    assert load_pairs(file).measure == (("a", "b"),)
    assert load_pairs(file).judge == (("c", "d"),)
    for line in ("{", "[]", '{"query": "a"}', '{"query": "a", "document": 1}'):
        file.write_text('{"query": "a", "document": "b"}\n' + line)
        with pytest.raises(CalibrationError, match="line 2"):
            load_pairs(file)
    file.write_text('{"query": "a", "document": "b"}')
    with pytest.raises(CalibrationError, match="at least two queries"):
        load_pairs(file)


def test_another_order_is_refused() -> None:
    pairs = [("q", str(number)) for number in range(8)] + [("r", str(n)) for n in range(8)]
    fp32 = np.arange(16, dtype=np.float32)
    found = agreement(pairs, fp32, fp32 + np.float32(0.25))
    assert (found.kendall_tau, found.rms_difference) == pytest.approx((1.0, 0.25))
    with pytest.raises(VerificationError, match="orders documents otherwise"):
        agreement(pairs, fp32, -fp32)
