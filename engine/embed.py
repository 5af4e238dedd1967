"""Texts to vectors: the embedding model of an index bundle, for its queries and its documents.

Building an index and searching it embed with this code, so both sides meet in one space.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from engine.batches import plan_batches
from engine.bundles import Bundle
from engine.errors import BundleError
from schemas.manifests import EmbedderSpec, IndexManifest

Vectors = NDArray[np.float32]

MODEL_FILE = "embedder/model.onnx"
TOKENIZER_FILE = "embedder/tokenizer.json"

# What lies behind so many characters for each token that the model can read is cut off before
# tokenising, so that one text of megabytes doesn't hold up the others.
CHARS_PER_TOKEN = 32


def _unheard(_: int) -> None:
    """Take progress that nobody asked for."""


@dataclass(frozen=True)
class Embedder:
    """Embeds texts; safe to call from many threads.

    Only texts of equal length share a batch, so nothing is padded and a text's vector is the same,
    bit for bit, whatever it is embedded together with.
    """

    spec: EmbedderSpec
    tokenizer: Tokenizer
    session: ort.InferenceSession
    lanes: ThreadPoolExecutor

    @classmethod
    def open(cls, bundle: Bundle[IndexManifest], lanes: int = 1) -> "Embedder":
        """Load the embedding model of an index bundle, run by so many threads side by side."""
        return cls.load(
            bundle.file(MODEL_FILE), bundle.file(TOKENIZER_FILE), bundle.manifest.embedder, lanes
        )

    @classmethod
    def load(
        cls, model_onnx: Path, tokenizer_json: Path, spec: EmbedderSpec, lanes: int = 1
    ) -> "Embedder":
        """Load from files; the tokenizer's own padding and truncation settings are left out.

        Raises BundleError where the graph isn't the one that `spec` describes.
        """
        tokenizer = Tokenizer.from_file(str(tokenizer_json))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        session = _open_session(model_onnx)
        _check_graph(session, spec, model_onnx)
        executor = ThreadPoolExecutor(lanes, thread_name_prefix="embed")
        return cls(spec, tokenizer, session, executor)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return float32 [texts, dimension], row by row in the order of `texts`."""
        return self._embed(texts, self.spec.query_prompt, _unheard)

    def embed_documents(
        self, texts: Sequence[str], on_progress: Callable[[int], None] = _unheard
    ) -> Vectors:
        """Return float32 [texts, dimension], row by row in the order of `texts`.

        `on_progress` hears how many more are done, batch by batch.
        """
        return self._embed(texts, self.spec.document_prompt, on_progress)

    def close(self) -> None:
        """End the threads, after what they are at."""
        self.lanes.shutdown()

    def _embed(
        self, texts: Sequence[str], prompt: str, on_progress: Callable[[int], None]
    ) -> Vectors:
        rows = self._encode([prompt + text for text in texts])
        vectors = np.empty((len(rows), self.spec.dimension), dtype=np.float32)
        batches = plan_batches([len(row) for row in rows])
        inputs = (np.asarray([rows[position] for position in batch]) for batch in batches)
        for batch, result in zip(batches, self.lanes.map(self._run, inputs), strict=True):
            vectors[batch] = result
            on_progress(len(batch))
        return vectors

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return token ids with the special ones around them, at most `max_tokens` each."""
        spec = self.spec
        room = spec.max_tokens - len(spec.prefix) - len(spec.suffix)
        limit = spec.max_tokens * CHARS_PER_TOKEN
        encodings = self.tokenizer.encode_batch(
            [text[:limit] for text in texts], add_special_tokens=False
        )
        return [[*spec.prefix, *encoding.ids[:room], *spec.suffix] for encoding in encodings]

    def _run(self, ids: NDArray[np.int64]) -> Vectors:
        """Turn ids, int64 [rows, tokens], into float32 [rows, dimension]."""
        feeds = {"input_ids": ids}
        if "attention_mask" in self.spec.inputs:
            feeds["attention_mask"] = np.ones_like(ids)
        if "token_type_ids" in self.spec.inputs:
            feeds["token_type_ids"] = np.zeros_like(ids)
        (hidden,) = self.session.run([self.spec.output], feeds)
        return _normalise(self._pool(hidden)) if self.spec.normalize else self._pool(hidden)

    def _pool(self, hidden: Vectors) -> Vectors:
        """Turn [rows, tokens, dimension] into [rows, dimension]."""
        if self.spec.pooling == "cls":
            return hidden[:, 0]
        return np.asarray(hidden.mean(axis=1), dtype=np.float32)


def _normalise(vectors: Vectors) -> Vectors:
    """Bring each row to length 1; a row of zeros stays what it is."""
    lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


def _open_session(model_onnx: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # One thread: then the caller's own thread does the work, and the lanes run side by side.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    return ort.InferenceSession(str(model_onnx), options, providers=["CPUExecutionProvider"])


def _check_graph(session: ort.InferenceSession, spec: EmbedderSpec, model_onnx: Path) -> None:
    inputs = {node.name for node in session.get_inputs()}
    outputs = {node.name: node.shape for node in session.get_outputs()}
    if inputs != set(spec.inputs):
        raise BundleError(f"{model_onnx}: its inputs are {sorted(inputs)}, not {spec.inputs}")
    if spec.output not in outputs:
        raise BundleError(f"{model_onnx}: it has no output {spec.output!r}")
    width = outputs[spec.output][-1]
    if isinstance(width, int) and width != spec.dimension:
        raise BundleError(f"{model_onnx}: its vectors have {width} numbers, not {spec.dimension}")
