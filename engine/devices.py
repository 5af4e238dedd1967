"""What runs a model bundle's graph: ONNX Runtime on the CPU or a GPU, or OpenVINO on the CPU."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from engine.bundles import Bundle
from engine.errors import BundleError
from engine.graph import Graph, Logits, OnnxGraph
from schemas.manifests import ModelManifest

Device = Literal["cpu", "openvino", "cuda", "tensorrt"]

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
# Best first. TensorRT leaves what it does not know to CUDA.
GPU_CHOICES = {"cuda": (CUDA, CPU), "tensorrt": (TENSORRT, CUDA, CPU)}


@dataclass(frozen=True)
class BucketedGraph:
    """Runs batches of any number of rows as the next power of two.

    A GPU's runtime plans memory and kernels for each shape that it meets, and TensorRT builds an
    engine: fewer shapes, fewer of those. Lengths stay exact, as the graphs know no padding.
    """

    graph: Graph

    def __call__(self, ids: NDArray[np.int64], document_start: NDArray[np.int64]) -> Logits:
        """See `engine.graph.Graph`; the last row is repeated, and what it adds is thrown away."""
        rows = len(ids)
        more = (1 << (rows - 1).bit_length()) - rows if rows else 0
        if not more:
            return self.graph(ids, document_start)
        padded = np.concatenate([ids, np.repeat(ids[-1:], more, axis=0)])
        starts = np.concatenate([document_start, np.repeat(document_start[-1:], more)])
        return self.graph(padded, starts)[:rows]


def open_graph(bundle: Bundle[ModelManifest], device: Device, lanes: int) -> Graph:
    """Load a bundle's graph for so many lanes; raises BundleError.

    Without a GPU that works ONNX Runtime would quietly take the CPU: that is an error here.
    """
    if device == "cpu":
        return OnnxGraph.open(bundle)
    if device == "openvino":
        from engine.openvino_graph import OpenVinoGraph  # noqa: PLC0415 - an optional extra

        return OpenVinoGraph.open(bundle, lanes)
    providers = GPU_CHOICES[device]
    if providers[0] in ort.get_available_providers():
        graph = OnnxGraph.open(bundle, providers)
        if providers[0] in graph.session.get_providers():
            return BucketedGraph(graph)
    raise BundleError(
        f"device (RERANKER_DEVICE) {device}: ONNX Runtime finds no GPU here: install the extra "
        "[gpu] in place of [cpu], check the driver, or set cpu"
    )
