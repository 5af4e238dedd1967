"""ONNX Runtime's providers for GPUs: which, with what options, and for how large batches.

Names of options are those of ONNX Runtime's pages on the CUDA and the TensorRT provider. None of
them was tried on a GPU: see docs/performance.md.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import onnxruntime as ort

from engine.batches import BatchSize
from engine.bundles import Bundle
from engine.errors import BundleError
from engine.graph import Provider
from engine.remote import default_cache
from schemas.manifests import ModelManifest

Gpu = Literal["cuda", "tensorrt"]

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

# Part of the keys of scores from GPUs, so that old ones are not taken for new ones. Raise it
# whenever the options below change what a score is, or `engine.stacks.FILL_MULTIPLE` does.
GPU_SCORES = 2

# A GPU is slow on few rows, so it gets all of a length that a worker's batch may hold.
CUDA_SIZE = BatchSize(rows=256, tokens=16_384, powers_of_two=True)
# TensorRT keeps memory for the largest batch that its engine was built for.
TENSORRT_ROWS, TENSORRT_TOKENS = 64, 32_768
# What its engine is made fastest for.
USUAL_ROWS, USUAL_TOKENS = 16, 128


def gpu_size(manifest: ModelManifest, device: Gpu) -> BatchSize:
    """Return the largest batch for a GPU."""
    if device == "cuda":
        return CUDA_SIZE
    rows = max(1, min(TENSORRT_ROWS, TENSORRT_TOKENS // manifest.pair.max_tokens))
    return BatchSize(rows, TENSORRT_TOKENS, powers_of_two=True)


def gpu_providers(
    bundle: Bundle[ModelManifest], device: Gpu, cache: Path | None = None
) -> list[Provider]:
    """Return providers and their options, best first; TensorRT leaves to CUDA what it can't do.

    `cache` is where TensorRT keeps engines, default: the user's cache folder. Raises BundleError.
    """
    last: list[Provider] = [(CUDA, cuda_options()), (CPU, {})]
    if device == "cuda":
        return last
    folder = _private_folder(cache or default_engine_cache())
    return [(TENSORRT, tensorrt_options(bundle, folder)), *last]


def default_engine_cache() -> Path:
    """Return the folder for TensorRT's engines: `kafka-reranker/engines` in the user's cache."""
    return default_cache().with_name("engines")


def cuda_options() -> Mapping[str, str]:
    """Return options with which scores are the same each time, and fp32 is fp32."""
    return {
        "device_id": "0",
        # Not the next power of two of what the largest batch needs.
        "arena_extend_strategy": "kSameAsRequested",
        # The default of all, EXHAUSTIVE, takes what was fastest at that moment.
        "cudnn_conv_algo_search": "HEURISTIC",
        "do_copy_in_default_stream": "1",
        # On by default, and cuts what fp32 products are made of to 10 bits behind the point.
        "use_tf32": "0",
        # Off by default: sums of half-precision layer norms would be half-precision, too.
        "enable_skip_layer_norm_strict_mode": "1",
    }


def tensorrt_options(bundle: Bundle[ModelManifest], cache: Path) -> Mapping[str, str]:
    """Return options for one engine that holds for every batch and is built once.

    Engines hold for one model and one ONNX Runtime; a folder for each keeps them apart.
    """
    manifest = bundle.manifest
    engines = cache / f"{bundle.digest.removeprefix('sha256:')[:16]}-{ort.__version__}"
    half = str(manifest.precision == "fp16")
    return {
        "device_id": "0",
        "trt_fp16_enable": half,
        "trt_int8_enable": "False",
        "trt_layer_norm_fp32_fallback": half,
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(engines),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(cache),
        **_profile(manifest),
    }


def _profile(manifest: ModelManifest) -> Mapping[str, str]:
    """Return the shapes that the engine is for: without them it is built anew for larger ones."""
    longest = manifest.pair.max_tokens
    rows = gpu_size(manifest, "tensorrt").rows_of(1)
    shapes = {
        "min": (1, 1),
        "opt": (min(USUAL_ROWS, rows), min(USUAL_TOKENS, longest)),
        "max": (rows, longest),
    }
    return {
        f"trt_profile_{name}_shapes": ",".join(
            f"{graph_input}:{rows}x{tokens}" for graph_input in manifest.inputs
        )
        for name, (rows, tokens) in shapes.items()
    }


def _private_folder(folder: Path) -> Path:
    """Make the folder: engines are code, so nobody else may put one there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BundleError(
            f"engine_cache (RERANKER_ENGINE_CACHE): {folder}: {error.strerror}: name a folder that "
            "can be written"
        ) from None
    return folder.resolve()
