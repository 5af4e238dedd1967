"""Impressions and clicks to what is known of each pair: how often shown and clicked, and where."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq

from training.collect.store import event_files
from training.label.keys import PairKey, query_key
from training.label.propensity import Propensities
from training.run_folder import RunFolder

_BATCH_ROWS = 2048


@dataclass(slots=True)
class Exposure:
    """One pair: position → [impressions, clicks], and the latest that was said of it."""

    positions: dict[int, list[int]] = field(default_factory=dict)
    text: str | None = None
    retrieval_rank: int | None = None

    @property
    def impressions(self) -> int:
        """How often it was shown."""
        return sum(shown for shown, _ in self.positions.values())

    @property
    def clicks(self) -> int:
        """How often it was clicked."""
        return sum(clicked for _, clicked in self.positions.values())


@dataclass
class ClickLog:
    """All that the log says. Its size goes with the number of different pairs."""

    exposures: dict[PairKey, Exposure] = field(default_factory=dict)
    queries: dict[str, tuple[str, str | None]] = field(default_factory=dict)  # key → text, tenant
    asked: dict[str, str] = field(default_factory=dict)  # query_id, where it was wanted → key
    models: dict[str, int] = field(default_factory=dict)
    tiers: dict[str, int] = field(default_factory=dict)
    impressions: int = 0
    clicks: int = 0
    clicks_elsewhere: int = 0  # at another position than the worker's list had it
    clicks_too_short: int = 0
    clicks_without_impression: int = 0


def read_clicks(run: RunFolder, wanted_ids: set[str], min_dwell_ms: int) -> ClickLog:
    """Join clicks to impressions by `query_id`; `asked` gets the questions of `wanted_ids`."""
    log = ClickLog()
    clicks = _clicks(run, log, min_dwell_ms)
    unmatched = {(query_id, doc_id) for query_id, docs in clicks.items() for doc_id in docs}
    for event in _events(run, "impression"):
        key = query_key(event["query"], event["tenant"])
        log.queries.setdefault(key, (event["query"], event["tenant"]))
        log.impressions += 1
        log.models[event["model_name"]] = log.models.get(event["model_name"], 0) + 1
        log.tiers[event["tier"]] = log.tiers.get(event["tier"], 0) + 1
        if event["query_id"] in wanted_ids:
            log.asked[event["query_id"]] = key
        clicked = clicks.get(event["query_id"], {})
        for shown in event["shown"]:
            _add(log, (key, shown["doc_id"]), shown, clicked.get(shown["doc_id"]))
            unmatched.discard((event["query_id"], shown["doc_id"]))
    log.clicks_without_impression = len(unmatched)
    return log


def label_and_weight(
    exposure: Exposure, propensities: Propensities, clip: float
) -> tuple[float, float]:
    """Return label (0-1) and weight of a pair that was shown.

    The mean over its impressions of click / propensity, with no weight above `clip`, is an unbiased
    estimate of its relevance but for the clipping (Joachims, Swaminathan and Schnabel, "Unbiased
    Learning-to-Rank with Biased Feedback", WSDM 2017). What of it exceeds 1 becomes the weight. A
    pair without clicks weighs as much as it is likely that anybody ever looked at it.
    """
    mass, unseen = 0.0, 1.0
    for position, (shown, clicked) in exposure.positions.items():
        propensity = min(1.0, propensities.at(position))
        mass += clicked * min(clip, 1 / max(propensity, 1e-9))
        unseen *= (1 - propensity) ** shown
    mass /= exposure.impressions
    if mass == 0:
        return 0.0, max(1 - unseen, 1 / clip)
    return min(1.0, mass), max(1.0, mass)


def _add(log: ClickLog, pair: PairKey, shown: dict[str, Any], position: int | None) -> None:
    exposure = log.exposures.setdefault(pair, Exposure())
    counts = exposure.positions.setdefault(shown["rank"], [0, 0])
    counts[0] += 1
    counts[1] += position is not None
    log.clicks += position is not None
    log.clicks_elsewhere += position is not None and position != shown["rank"]
    exposure.text = shown["text"] if shown["text"] is not None else exposure.text
    exposure.retrieval_rank = shown["retrieval_rank"]


def _clicks(run: RunFolder, log: ClickLog, min_dwell_ms: int) -> dict[str, dict[str, int]]:
    """Return query_id → doc_id → position; the first click on a document counts."""
    found: dict[str, dict[str, int]] = {}
    for event in _events(run, "click"):
        if event["dwell_ms"] is not None and event["dwell_ms"] < min_dwell_ms:
            log.clicks_too_short += 1
            continue
        found.setdefault(event["query_id"], {}).setdefault(event["doc_id"], event["position"])
    return found


def _events(run: RunFolder, kind: str) -> Iterator[dict[str, Any]]:
    for path in event_files(run, kind):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS):
                yield from batch.to_pylist()


def judgement_events(run: RunFolder) -> list[dict[str, Any]]:
    """Return all judgements, in the order in which they were collected."""
    return list(_events(run, "judgement"))
