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
from schemas.manifests import ModelManifest
from tests.fakes.graph import FakeGraph
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
