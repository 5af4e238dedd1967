"""A graph whose inputs and logits lie in buffers that stay: ONNX Runtime's I/O binding.

On a GPU each call then copies ids there and logits back, and allocates nothing. On the CPU the
same code runs for tests.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnxruntime as ort
from cachetools import LRUCache
from numpy.typing import NDArray

from engine.graph import Logits, OnnxGraph

# Buffers of so many shapes are kept for each thread: a few MB.
SHAPES_KEPT = 256
TYPES: Mapping[str, type[np.floating]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}


@dataclass(frozen=True)
class _Buffers:
    """Inputs and output of one shape on the device, bound for one thread."""

    binding: ort.IOBinding
    inputs: Mapping[str, ort.OrtValue]
    output: ort.OrtValue

    def run(self, session: ort.InferenceSession, feeds: Mapping[str, NDArray[np.int64]]) -> Logits:
        """Copy in, run, copy out."""
        for name, value in self.inputs.items():
            value.update_inplace(feeds[name])
        self.binding.synchronize_inputs()
        session.run_with_iobinding(self.binding)
        self.binding.synchronize_outputs()
        # On the CPU this is a view of the buffer, which the next call writes to.
        return np.array(self.output.numpy(), dtype=np.float32)


@dataclass(frozen=True)
class BoundGraph:
    """See `engine.graph.OnnxGraph`. Each thread that calls it has buffers of its own."""

    graph: OnnxGraph
    device: Literal["cpu", "cuda"]
    threads: threading.local = field(default_factory=threading.local, compare=False, repr=False)

    def __call__(
        self,
        ids: NDArray[np.int64],
        document_start: NDArray[np.int64],
        lengths: NDArray[np.int64] | None = None,
    ) -> Logits:
        """See `engine.graph.OnnxGraph`."""
        feeds = self.graph.feeds(ids, document_start, lengths)
        return self._buffers(ids.shape[0], ids.shape[1]).run(self.graph.session, feeds)

    def _buffers(self, rows: int, tokens: int) -> _Buffers:
        kept: LRUCache[tuple[int, int], _Buffers] | None = getattr(self.threads, "kept", None)
        if kept is None:
            kept = self.threads.kept = LRUCache(SHAPES_KEPT)
        found = kept.get((rows, tokens))
        if found is None:
            found = kept[rows, tokens] = self._bind(rows, tokens)
        return found

    def _bind(self, rows: int, tokens: int) -> _Buffers:
        session, name = self.graph.session, self.graph.output
        binding = session.io_binding()
        inputs = {each: self._value((rows, tokens), np.int64) for each in self.graph.inputs}
        for each, value in inputs.items():
            binding.bind_ortvalue_input(each, value)
        kinds = {node.name: node.type for node in session.get_outputs()}
        output = self._value((rows,), TYPES[kinds[name]])
        binding.bind_ortvalue_output(name, output)
        return _Buffers(binding, inputs, output)

    def _value(self, shape: tuple[int, ...], kind: type[np.generic]) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_shape_and_type(shape, kind, self.device, 0)
