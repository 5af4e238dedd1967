"""The graph of a model bundle on OpenVINO (extra [openvino]) in place of ONNX Runtime.

Reads the same `model.onnx`. Everything but the int8 products is computed in fp32: left to itself
OpenVINO takes bf16 where the CPU has it, and logits of 8 significant bits tie.
"""

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.bundles import Bundle
from engine.errors import BundleError
from engine.graph import Logits
from schemas.manifests import ModelManifest


class OpenVinoMissingError(BundleError):
    """The package is not installed."""


@dataclass(frozen=True)
class OpenVinoGraph:
    """See `engine.graph.Graph`. Each thread that calls it has a request of its own."""

    compiled: Any
    inputs: tuple[str, ...]
    token_types: bool
    requests: threading.local = field(default_factory=threading.local, compare=False)

    @classmethod
    def open(cls, bundle: Bundle[ModelManifest], lanes: int) -> "OpenVinoGraph":
        """Load the model for `lanes` threads; raises BundleError, OpenVinoMissingError."""
        os.environ.setdefault("OPENVINO_TELEMETRY_OPT_OUT", "1")
        try:
            import onnx  # noqa: F401, PLC0415 - an optional extra
            import openvino  # noqa: PLC0415
        except ImportError:
            raise OpenVinoMissingError(
                "OpenVINO is not installed: pip install 'kafka-reranker[openvino]'"
            ) from None
        manifest, file = bundle.manifest, bundle.file("model.onnx")
        settings = {
            "INFERENCE_NUM_THREADS": lanes,
            "NUM_STREAMS": lanes,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            core = openvino.Core()
            compiled = core.compile_model(core.read_model(_without_calls(file)), "CPU", settings)
            compiled.output(manifest.output)
            for name in manifest.inputs:
                compiled.input(name)
        except Exception as error:  # OpenVINO's, ONNX's and protobuf's have no common base.
            reason = " ".join(str(error).split())[:300]
            raise BundleError(f"{file} can't be loaded by OpenVINO: {reason}") from None
        return cls(compiled, manifest.inputs, manifest.pair.token_types)

    def __call__(self, ids: NDArray[np.int64], document_start: NDArray[np.int64]) -> Logits:
        """See `Graph`."""
        feeds: dict[str, NDArray[np.int64]] = {"input_ids": ids}
        if "token_type_ids" in self.inputs:
            types = np.arange(ids.shape[1]) >= document_start[:, None]
            feeds["token_type_ids"] = (types & self.token_types).astype(np.int64)
        if "attention_mask" in self.inputs:
            feeds["attention_mask"] = np.ones_like(ids)
        found = self._request().infer(feeds)
        # The result lies in memory that the next request of this thread writes to.
        return np.array(next(iter(found.values())), dtype=np.float32)

    def _request(self) -> Any:
        request = getattr(self.requests, "request", None)
        if request is None:
            request = self.requests.request = self.compiled.create_infer_request()
        return request


def _without_calls(file: Path) -> bytes | Path:
    """Return the model with its functions' nodes in place of calls, which OpenVINO can't read."""
    import onnx.inliner  # noqa: PLC0415 - see above

    if not onnx.load(file, load_external_data=False).functions:
        return file
    model = onnx.inliner.inline_local_functions(onnx.load(file))
    return bytes(model.SerializeToString())
