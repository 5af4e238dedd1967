"""Bi-encoder embeddings and the lexical part of the teacher's score."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from transformers import AutoModel, AutoTokenizer

from training.console import console

Floats = NDArray[np.float32]

_STOP = frozenset(
    """
    the of a an in to and is are was were be for on by with at from as that this it its
    what which who when where how did do does has have had or not but
    """.split()  # noqa: SIM905 - a list of words reads better as words
)


class Embedder:
    """Mean-pooled, normalised sentence embeddings."""

    def __init__(
        self,
        model_path: Path,
        max_length: int = 256,
        batch_size: int = 32,
        bf16: bool = False,
        threads: int = 2,
    ) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(model_path)
        self._model = AutoModel.from_pretrained(model_path).eval()
        self._max_length = max_length
        self._batch_size = batch_size
        self._bf16 = bf16
        self._threads = threads

    def encode(self, texts: Sequence[str], label: str) -> Floats:
        """Embeddings, float32 [len(texts), hidden], in the order of `texts`."""
        torch.set_num_threads(1)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        out: Floats = np.zeros((len(texts), self._model.config.hidden_size), dtype=np.float32)
        cuts = [order[i : i + self._batch_size] for i in range(0, len(order), self._batch_size)]
        with ThreadPoolExecutor(self._threads) as workers:
            units = workers.map(lambda rows: self._encode_batch([texts[i] for i in rows]), cuts)
            shown = track(
                units, description=label, total=len(cuts), console=console, transient=True
            )
            for rows, unit in zip(cuts, shown, strict=True):
                out[rows] = unit
        return out

    @torch.inference_mode()
    def _encode_batch(self, texts: list[str]) -> Floats:
        batch = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self._max_length, return_tensors="pt"
        )
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._bf16):
            hidden = self._model(**batch).last_hidden_state.float()
        mask = batch["attention_mask"].unsqueeze(-1)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        unit: Floats = torch.nn.functional.normalize(mean, dim=1).numpy()
        return unit


def lexical_tokens(text: str) -> list[str]:
    """Lower-case words cut to six letters (a crude stem), without stop words."""
    return [t[:6] for t in re.findall(r"[a-z0-9]+", text.lower()) if t not in _STOP]


class Bm25:
    """BM25 of single pairs, with document frequencies of one collection."""

    def __init__(self, texts: Sequence[str], k1: float = 0.9, b: float = 0.4) -> None:
        self._k1, self._b = k1, b
        self._counts = [Counter(lexical_tokens(t)) for t in texts]
        self._df = Counter(w for c in self._counts for w in c)
        self._lengths = [sum(c.values()) for c in self._counts]
        self._mean_length = max(1.0, sum(self._lengths) / max(1, len(texts)))

    def score(self, query: str, row: int) -> float:
        """BM25 of `query` and document number `row`."""
        counts, total = self._counts[row], 0.0
        norm = self._k1 * (1 - self._b + self._b * self._lengths[row] / self._mean_length)
        for word in set(lexical_tokens(query)):
            if tf := counts.get(word, 0):
                df = self._df[word]
                idf = math.log(1 + (len(self._counts) - df + 0.5) / (df + 0.5))
                total += idf * tf * (self._k1 + 1) / (tf + norm)
        return total
