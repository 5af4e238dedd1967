"""One batch of token ids to logits: the boundary to the inference runtime."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from engine.bundles import Bundle
from engine.errors import BundleError
from engine.kernels import library
from schemas.manifests import ModelManifest

Logits = NDArray[np.float32]
MASK = "attention_mask"
# Name and options.
Provider = tuple[str, Mapping[str, str]]

CPU_ONLY: Sequence[Provider] = (("CPUExecutionProvider", {}),)
# Providers that need CUDA's libraries.
GPU_PROVIDERS = frozenset({"CUDAExecutionProvider", "TensorrtExecutionProvider"})


class Graph(Protocol):
    """Runs one batch: the boundary to the inference runtime. Safe to call from many threads."""

    def __call__(self, ids: NDArray[np.int64], document_start: NDArray[np.int64]) -> Logits:
        """Take ids [rows, tokens] and starts [rows]; return one raw logit a row, float32 [rows]."""


@dataclass(frozen=True)
class OnnxGraph:
    """The graph of a model bundle."""

    session: ort.InferenceSession
    inputs: tuple[str, ...]
    output: str
    token_types: bool

    @classmethod
    def open(
        cls,
        bundle: Bundle[ModelManifest],
        providers: Sequence[Provider] = (),
        *,
        kernels: bool = True,
    ) -> "OnnxGraph":
        """Load `model.onnx`; `providers` are ONNX Runtime's, with options, best first (none: CPU).

        With `kernels`, and no providers, the CPU computes with `engine.kernels` where it can.
        Raises BundleError for what is no model, or not the model that the manifest describes.
        """
        manifest, file = bundle.manifest, bundle.file("model.onnx")
        try:
            _load_gpu_libraries(providers)
            session = ort.InferenceSession(
                str(file),
                session_options(kernels=kernels and not providers),
                providers=[(name, dict(options)) for name, options in providers or CPU_ONLY],
                disabled_optimizers=set(manifest.disabled_optimizers),
                # What fails on a GPU is said, not quietly done on the CPU.
                enable_fallback=False,
            )
        except Exception as error:  # ONNX Runtime's errors have no common base.
            reason = " ".join(str(error).split())
            raise BundleError(f"{file} can't be loaded: {reason}") from None
        _check_names(session, manifest, file)
        return cls(session, manifest.inputs, manifest.output, manifest.pair.token_types)

    def __call__(
        self,
        ids: NDArray[np.int64],
        document_start: NDArray[np.int64],
        lengths: NDArray[np.int64] | None = None,
    ) -> Logits:
        """See `Graph`, and with lengths `engine.stacks.MaskedGraph`."""
        feeds = self.feeds(ids, document_start, lengths)
        (logits,) = self.session.run([self.output], feeds)
        return np.asarray(logits, dtype=np.float32)

    def feeds(
        self,
        ids: NDArray[np.int64],
        document_start: NDArray[np.int64],
        lengths: NDArray[np.int64] | None = None,
    ) -> dict[str, NDArray[np.int64]]:
        """Return the graph's inputs, int64 [rows, tokens] each."""
        feeds: dict[str, NDArray[np.int64]] = {"input_ids": ids}
        if "token_type_ids" in self.inputs:
            feeds["token_type_ids"] = self._types(ids, document_start)
        if MASK in self.inputs:
            feeds[MASK] = _mask(ids, lengths)
        return feeds

    def _types(
        self, ids: NDArray[np.int64], document_start: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        if not self.token_types:
            return np.zeros_like(ids)
        return (np.arange(ids.shape[1]) >= document_start[:, None]).astype(np.int64)


def _mask(ids: NDArray[np.int64], lengths: NDArray[np.int64] | None) -> NDArray[np.int64]:
    if lengths is None:
        return np.ones_like(ids)
    return (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)


def _load_gpu_libraries(providers: Sequence[Provider]) -> None:
    """Load CUDA's and cuDNN's libraries out of their packages, before the first session.

    ONNX Runtime looks only where the system's libraries are, and finds none in a slim image.
    """
    if GPU_PROVIDERS.intersection(name for name, _ in providers):
        ort.preload_dlls()


def _check_names(session: ort.InferenceSession, manifest: ModelManifest, file: Path) -> None:
    """Refuse at start what would fail on every batch."""
    inputs = {node.name for node in session.get_inputs()}
    outputs = {node.name for node in session.get_outputs()}
    if inputs != set(manifest.inputs) or manifest.output not in outputs:
        raise BundleError(
            f"{file} has inputs {sorted(inputs)} and outputs {sorted(outputs)}, not those of "
            "its manifest"
        )


def session_options(*, kernels: bool = True) -> ort.SessionOptions:
    """Return options for one lane: one thread, and the kernels that this CPU has, if wanted."""
    options = ort.SessionOptions()
    if kernels and (found := library()) is not None:
        options.register_custom_ops_library(str(found))
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    return options


def runtime_versions() -> Mapping[str, str]:
    """Return the versions of the libraries that decide about scores."""
    return {"onnxruntime": ort.__version__, "numpy": np.__version__}
