"""What runs a model bundle's graph: ONNX Runtime on the CPU or a GPU, or OpenVINO on the CPU.

`cpu` is ONNX Runtime with `engine.kernels` where the CPU can run them, `cpu-standard` without.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from engine.batches import BatchSize, BatchSizes, measured_sizes
from engine.bound import BoundGraph
from engine.bundles import Bundle
from engine.errors import BundleError
from engine.graph import MASK, Graph, Logits, OnnxGraph
from engine.lanes import Lanes
from engine.providers import CUDA, TENSORRT, Gpu, gpu_providers, gpu_size
from engine.stacks import Filled
from schemas.manifests import ModelManifest

Device = Literal["cpu", "cpu-standard", "openvino", "cuda", "tensorrt"]

FIRST = {"cuda": CUDA, "tensorrt": TENSORRT}


@dataclass(frozen=True)
class BucketedGraph:
    """Runs batches of any number of rows as the next power of two.

    A GPU's runtime plans memory and kernels for each shape that it meets: fewer shapes, fewer of
    those. Lengths become few in `engine.stacks.Filled`, where the graph has a mask.
    """

    graph: Callable[..., Logits]

    def __call__(
        self,
        ids: NDArray[np.int64],
        document_start: NDArray[np.int64],
        lengths: NDArray[np.int64] | None = None,
    ) -> Logits:
        """See `engine.graph.OnnxGraph`; the last row is repeated, and its logits thrown away."""
        arrays = [ids, document_start] if lengths is None else [ids, document_start, lengths]
        rows = len(ids)
        more = (1 << (rows - 1).bit_length()) - rows if rows else 0
        if more:
            arrays = [np.concatenate([each, np.repeat(each[-1:], more, axis=0)]) for each in arrays]
        return self.graph(*arrays)[:rows]


def open_lanes(
    bundle: Bundle[ModelManifest], device: Device, lanes: int, engine_cache: Path | None = None
) -> Lanes:
    """Load a bundle's graph and start lanes with the batches that suit both; raises BundleError.

    `engine_cache` is where TensorRT keeps its engines, by default the user's cache folder.
    """
    manifest = bundle.manifest
    graph: Graph | Filled
    if device == "cuda" or device == "tensorrt":  # noqa: PLR1714 - mypy narrows by equality only
        graph = open_on_gpu(bundle, device, engine_cache)
        if MASK in manifest.inputs:
            graph = Filled(graph, manifest.pad_token_id, manifest.pair.max_tokens)
    else:
        graph = open_graph(bundle, device, lanes)
    return Lanes(graph, lanes, batch_sizes(manifest, device))


def default_size(manifest: ModelManifest, device: Device) -> BatchSize:
    """Return the largest batch on a device where none was measured."""
    if device == "cuda" or device == "tensorrt":  # noqa: PLR1714 - mypy narrows by equality only
        return gpu_size(manifest, device)
    return BatchSize()


def batch_sizes(manifest: ModelManifest, device: Device) -> BatchSizes:
    """Return the batches for a bundle on a device: as its manifest says, or the default.

    For TensorRT always the default: its engine is built for it.
    """
    default = default_size(manifest, device)
    measured_on = "cpu" if device == "cpu-standard" else device
    measured = measured_sizes(manifest, measured_on, powers_of_two=default.powers_of_two)
    return BatchSizes(default) if measured is None or device == "tensorrt" else measured


def open_graph(
    bundle: Bundle[ModelManifest], device: Device, lanes: int, engine_cache: Path | None = None
) -> Graph:
    """Load a bundle's graph for so many lanes; raises BundleError.

    Without a GPU that works ONNX Runtime would quietly take the CPU: that is an error here.
    """
    if device == "cpu" or device == "cpu-standard":  # noqa: PLR1714 - see above
        return OnnxGraph.open(bundle, kernels=device == "cpu")
    if device == "openvino":
        from engine.openvino_graph import OpenVinoGraph  # noqa: PLC0415 - an optional extra

        return OpenVinoGraph.open(bundle, lanes)
    return open_on_gpu(bundle, device, engine_cache)


def open_on_gpu(
    bundle: Bundle[ModelManifest], device: Gpu, engine_cache: Path | None
) -> BucketedGraph:
    """Load a bundle's graph on a GPU, with buffers that stay there; raises BundleError."""
    if bundle.manifest.precision in {"int8", "int4"}:
        raise BundleError(
            f"device (RERANKER_DEVICE) {device}: {bundle.path} is {bundle.manifest.precision}, "
            "made for CPUs and slower on a GPU: make one with `python -m export model --precision "
            "fp16 --out DIR`, or set cpu"
        )
    if FIRST[device] in ort.get_available_providers():
        graph = OnnxGraph.open(bundle, gpu_providers(bundle, device, engine_cache))
        if FIRST[device] in graph.session.get_providers():
            return BucketedGraph(BoundGraph(graph, "cuda"))
    raise BundleError(
        f"device (RERANKER_DEVICE) {device}: ONNX Runtime finds no GPU here: install the extra "
        "[gpu] in place of [cpu], check the driver, or set cpu"
    )
