from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from engine.graph import OnnxGraph
from engine.pairs import EncodedPair
from export.checkpoint import open_checkpoint
from export.errors import VerificationError
from export.families import encoder_of
from export.fp32 import optimum_graph
from export.merge import load_merged
from export.scoring import Workbench
from export.trimmed import build
from export.verify import check_against_torch, check_batches
from tests.unit.export.conftest import CrossEncoder


def some_pairs() -> list[EncodedPair]:
    random = np.random.default_rng(5)
    lengths = [*random.integers(9, 65, 20), *[64] * 32]
    return [
        EncodedPair(random.integers(5, 60, length).astype(np.int32), int(length) // 3, False)
        for length in lengths
    ]


def reference(network: object, folder: Path, pair: EncodedPair) -> float:
    """Score with the graph that Optimum exports."""
    file = folder / "optimum.onnx"
    if not file.is_file():
        file.write_bytes(optimum_graph(network).SerializeToString())  # type: ignore[arg-type]
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    ids = pair.ids[None].astype(np.int64)
    types = (np.arange(ids.shape[1])[None] >= pair.document_start).astype(np.int64)
    every = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": types}
    feeds = {value.name: every[value.name] for value in session.get_inputs()}
    (logit,) = session.run(["logit"], feeds)
    assert logit.shape == (1,)
    return float(logit[0])


def open_trimmed(network: object, folder: Path, *, token_types: bool) -> OnnxGraph:
    weights = encoder_of(network)  # type: ignore[arg-type]
    assert weights is not None
    return Workbench(folder, token_types).open(build(weights))


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_same_function_as_the_graph_of_optimum(
    family: str, cross_encoder: CrossEncoder, tmp_path: Path
) -> None:
    network = load_merged(open_checkpoint(str(cross_encoder(family))), None)
    graph = open_trimmed(network, tmp_path, token_types=family == "bert")
    for pair in some_pairs()[:8]:
        (logit,) = graph(pair.ids[None].astype(np.int64), np.asarray([pair.document_start]))
        assert logit == pytest.approx(reference(network, tmp_path, pair), abs=1e-4)
    assert check_against_torch(network, graph, some_pairs()) < 1e-4


def test_a_row_alone_scores_exactly_as_in_a_batch(
    cross_encoder: CrossEncoder, tmp_path: Path
) -> None:
    network = load_merged(open_checkpoint(str(cross_encoder("bert"))), None)
    graph = open_trimmed(network, tmp_path, token_types=True)
    assert check_batches(graph, some_pairs()) >= 32


def test_a_graph_of_other_weights_is_noticed(cross_encoder: CrossEncoder, tmp_path: Path) -> None:
    network = load_merged(open_checkpoint(str(cross_encoder("bert"))), None)
    graph = open_trimmed(network, tmp_path, token_types=True)
    with torch.no_grad():
        network.get_parameter("bert.encoder.layer.1.attention.self.value.bias").add_(0.1)
    with pytest.raises(VerificationError, match="differs by"):
        check_against_torch(network, graph, some_pairs())


def test_rows_that_influence_one_another_are_noticed() -> None:
    class Mixing:
        token_types = True

        def __call__(self, ids: np.ndarray, _: np.ndarray) -> np.ndarray:
            return np.asarray(ids.sum(axis=1) + 1e-3 * ids.max(), dtype=np.float32)

    with pytest.raises(VerificationError, match="in a batch"):
        check_batches(Mixing(), some_pairs())  # type: ignore[arg-type]
