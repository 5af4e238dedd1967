"""A whole index bundle of simulated passages: time, memory and size."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.index_types import DOCUMENT_SEED, peak_bytes
from bench.index_vectors import DIMENSION, Simulation
from engine.bundles import open_index
from engine.embed import Vectors
from export.bars import Advance
from export.index_build import Wanted, build_with
from export.index_segment import processors
from schemas.manifests import EmbedderSpec, Source

WORDS = tuple(f"{a}{b}" for a in ("ka", "lo", "mi", "ne", "ru") for b in ("", "ta", "ster", "ming"))
WORDS_PER_PASSAGE = 40


class SimulatedEmbedder:
    """Gives simulated vectors in the order of the documents, whatever their texts."""

    def __init__(self, documents: int) -> None:
        self._blocks = Simulation.new().draw(documents, DOCUMENT_SEED)
        self._rest: Vectors = np.empty((0, DIMENSION), dtype=np.float32)

    def embed_documents(self, texts: list[str], on_progress: Advance, /) -> Vectors:
        """Return the next vectors."""
        while len(self._rest) < len(texts):
            self._rest = np.concatenate([self._rest, next(self._blocks)])
        found, self._rest = self._rest[: len(texts)], self._rest[len(texts) :]
        on_progress(len(texts))
        return found

    def close(self) -> None:
        """Nothing is open."""


def write_corpus(path: Path, documents: int) -> None:
    """Write short passages, some 200 characters each."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(_lines(documents))


def build(corpus: Path, out: Path, index_type: str | None) -> dict[str, Any]:
    """Build the bundle, and return what it took."""
    with corpus.open("rb") as file:
        documents = sum(1 for _ in file)
    start = time.perf_counter()
    wanted = Wanted("simulated", index_type, processors())
    build_with(corpus, out, lambda _: (_spec(), SimulatedEmbedder(documents)), wanted)
    seconds, peak = time.perf_counter() - start, peak_bytes()
    manifest = open_index(out).manifest
    return {
        "documents": manifest.documents,
        "type": manifest.index_type,
        "seconds": seconds,
        "processor_seconds": time.process_time(),
        "peak_bytes": peak,
        "bundle_bytes": sum(entry.bytes for entry in manifest.files.values()),
    }


def _lines(documents: int) -> Iterator[str]:
    rng = np.random.default_rng(DOCUMENT_SEED)
    for start in range(0, documents, 1_000):
        chosen = rng.integers(len(WORDS), size=(min(1_000, documents - start), WORDS_PER_PASSAGE))
        for number, places in enumerate(chosen, start=start):
            text = " ".join(WORDS[place] for place in places)
            yield json.dumps({"_id": f"passage-{number}", "text": text}) + "\n"


def _spec() -> EmbedderSpec:
    return EmbedderSpec(
        name="simulated",
        source=Source(name="simulated", digest="sha256:" + "0" * 64),
        inputs=("input_ids",),
        output="last_hidden_state",
        pooling="mean",
        normalize=True,
        dimension=DIMENSION,
        max_tokens=256,
        prefix=(101,),
        suffix=(102,),
        pad_token_id=0,
    )
