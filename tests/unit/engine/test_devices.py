"""The same scores, whatever runs the graph."""

import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.bundles import Bundle, open_model
from engine.devices import BucketedGraph, open_graph
from engine.errors import BundleError
from engine.graph import Logits
from engine.kernels import ADD_NORM_QUANTIZE, ATTENTION, GELU_QUANTIZE
from engine.pairs import EncodedPair
from schemas.manifests import ModelManifest
from tests.fakes.graph import FakeGraph
from tests.unit.engine.tiny_encoder import LONGEST, WORDS, write_tiny_encoder
from tests.unit.tiny_retrieval import write_counting_model


class Recorder:
    """Notes the shapes that reach the graph."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self._graph = FakeGraph()

    def __call__(self, ids: NDArray[np.int64], document_start: NDArray[np.int64]) -> Logits:
        assert document_start.shape == ids.shape[:1]
        self.shapes.append(ids.shape)
        return self._graph(ids, document_start)


def batch(rows: int, tokens: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ids = np.random.default_rng(rows).integers(10, 90, size=(rows, tokens))
    return ids, np.full(rows, 3)


@pytest.mark.parametrize(("rows", "bucket"), [(1, 1), (2, 2), (3, 4), (5, 8), (8, 8), (31, 32)])
def test_rows_are_filled_up_to_a_power_of_two_and_score_the_same(rows: int, bucket: int) -> None:
    inner = Recorder()
    ids, starts = batch(rows, 17)

    found = BucketedGraph(inner)(ids, starts)

    assert inner.shapes == [(bucket, 17)]
    assert found.tolist() == FakeGraph()(ids, starts).tolist()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle[ModelManifest]:
    pytest.importorskip("onnx")
    return open_model(write_counting_model(tmp_path_factory.mktemp("models"), "fox"))


def test_buckets_change_no_score_of_a_real_graph(bundle: Bundle[ModelManifest]) -> None:
    graph = open_graph(bundle, "cpu", 1)
    for rows in range(1, 10):
        ids, starts = batch(rows, 12)
        ids[:, 0] = 0
        assert np.array_equal(BucketedGraph(graph)(ids % 3, starts), graph(ids % 3, starts))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_openvino_scores_as_onnxruntime_from_many_threads(bundle: Bundle[ModelManifest]) -> None:
    pytest.importorskip("openvino")
    expected, found = open_graph(bundle, "cpu", 2), open_graph(bundle, "openvino", 2)
    wrong: list[int] = []

    def work(seed: int) -> None:
        for rows in range(1, 8):
            ids = np.random.default_rng(seed * 100 + rows).integers(0, 3, size=(rows, 5 + rows))
            starts = np.zeros(rows, dtype=np.int64)
            together = found(ids, starts)
            alone = [float(found(ids[at : at + 1], starts[:1])[0]) for at in range(rows)]
            if together.tolist() != alone or not np.allclose(together, expected(ids, starts)):
                wrong.append(rows)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_graph_that_openvino_cannot_read_is_one_line(
    bundle: Bundle[ModelManifest], tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    for file in bundle.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    broken = Bundle(tmp_path, bundle.digest, bundle.manifest)
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(BundleError, match=r"OpenVINO") as caught:
        open_graph(broken, "openvino", 1)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def int8_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle[ModelManifest]:
    """A small encoder in int8 whose graph has calls of all kernels, as export makes it."""
    onnx = pytest.importorskip("onnx")
    from export.quantize.fuse import fused  # noqa: PLC0415 - an optional extra
    from export.quantize.int8 import int8_products  # noqa: PLC0415
    from export.quantize.ranges import measure  # noqa: PLC0415
    from export.quantize.sites import find_sites  # noqa: PLC0415
    from export.scoring import Workbench  # noqa: PLC0415

    scratch = tmp_path_factory.mktemp("scratch")
    bundle = open_model(write_tiny_encoder(tmp_path_factory.mktemp("models") / "int8"))
    fp32 = onnx.load(bundle.file("model.onnx"))
    chance = np.random.default_rng(5)
    pairs = [
        EncodedPair(chance.integers(2, WORDS, length, np.int32), 5, truncated=False)
        for length in (12, 40, LONGEST)
    ]
    sites = find_sites(fp32)
    ranges = measure(fp32, sites, pairs, Workbench(scratch, token_types=True))
    model = fused(int8_products(fp32, sites, ranges, 0.5))
    names = {function.name for function in model.functions}
    assert names >= {ATTENTION, GELU_QUANTIZE, ADD_NORM_QUANTIZE}
    onnx.save(model, bundle.file("model.onnx"))
    return bundle


def texts(rows: int, tokens: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ids = np.random.default_rng(tokens).integers(2, WORDS, size=(rows, tokens))
    return ids, np.full(rows, 6)


def test_cpu_standard_takes_the_operators_that_a_cpu_without_kernels_takes(
    int8_bundle: Bundle[ModelManifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    standard = open_graph(int8_bundle, "cpu-standard", 1)
    monkeypatch.setattr("engine.graph.library", lambda: None)
    without = open_graph(int8_bundle, "cpu", 1)
    for tokens in (7, 40):
        assert np.array_equal(standard(*texts(9, tokens)), without(*texts(9, tokens)))


@pytest.mark.usefixtures("kernels")
def test_cpu_takes_kernels_and_scores_nearly_as_cpu_standard(
    int8_bundle: Bundle[ModelManifest],
) -> None:
    ours, standard = (open_graph(int8_bundle, device, 1) for device in ("cpu", "cpu-standard"))
    found = np.concatenate([ours(*texts(9, tokens)) for tokens in (7, 40, 96)])
    expected = np.concatenate([standard(*texts(9, tokens)) for tokens in (7, 40, 96)])
    assert not np.array_equal(found, expected)
    assert np.abs(found - expected).max() < 0.1 * expected.std()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_openvino_scores_a_graph_with_calls_nearly_as_onnxruntime(
    int8_bundle: Bundle[ModelManifest],
) -> None:
    pytest.importorskip("openvino")
    found, expected = (open_graph(int8_bundle, each, 1) for each in ("openvino", "cpu-standard"))
    for tokens in (7, 40, 96):
        ids, starts = texts(9, tokens)
        scores = expected(ids, starts)
        assert np.abs(found(ids, starts) - scores).max() < 0.1 * scores.std()
