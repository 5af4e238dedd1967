"""Pairs of texts to logits in one call."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.bundles import Bundle
from engine.devices import open_lanes
from engine.lanes import Lanes
from engine.pairs import EncodedPair, PairEncoder
from engine.passages import ONE_PASSAGE, Passages
from schemas.manifests import ModelManifest


@dataclass(frozen=True)
class ScoredPair:
    """A raw logit, whether the model read only a part of the document, and in how many passages."""

    logit: float
    truncated: bool
    passages: int = 1


class Scorer:
    """Pairs of texts to logits in one call, for evaluation, calibration and tests."""

    def __init__(self, encoder: PairEncoder, lanes: Lanes) -> None:
        self.encoder = encoder
        self.lanes = lanes

    @classmethod
    def open(
        cls, bundle: Bundle[ModelManifest], lanes: int = 1, passages: Passages = ONE_PASSAGE
    ) -> "Scorer":
        """Open a model bundle with so many lanes."""
        return cls(PairEncoder.open(bundle, passages), open_lanes(bundle, "cpu", lanes))

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[ScoredPair]:
        """Return one score for each (query, document); raises QueryTooLongError."""
        by_query: dict[str, list[int]] = {}
        for position, (query, _) in enumerate(pairs):
            by_query.setdefault(query, []).append(position)
        encoded: dict[int, list[EncodedPair]] = {}
        for query, positions in by_query.items():
            ids = self.encoder.encode_query(query)
            rows = self.encoder.encode_passages(ids, [pairs[position][1] for position in positions])
            encoded.update(zip(positions, rows, strict=True))
        ordered = [encoded[position] for position in range(len(pairs))]
        logits = self.lanes.submit([part for parts in ordered for part in parts]).result()
        ends = np.cumsum([len(parts) for parts in ordered])
        return [
            ScoredPair(float(logits[end - len(parts) : end].max()), parts[0].truncated, len(parts))
            for end, parts in zip(ends, ordered, strict=True)
        ]

    def close(self) -> None:
        """End the lanes."""
        self.lanes.close()
