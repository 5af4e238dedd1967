"""What is in the data, as JSON, and what its user should know."""

from collections import Counter
from typing import Any

from training.label.build import Labelled


def summarise(labelled: Labelled) -> dict[str, Any]:
    """Return what is in the data, as JSON."""
    rows, evidence = labelled.rows, labelled.evidence
    log, judgements, curve = evidence.log, evidence.judgements, evidence.propensities
    agreement = labelled.agreement
    queries = {row.query_id: row.split for row in rows}
    return {
        "rows": len(rows),
        "queries": len(queries),
        "queries_by_split": {
            split: sum(one == split for one in queries.values())
            for split in ("train", "dev", "test")
        },
        "rows_by_source": dict(sorted(Counter(row.source for row in rows).items())),
        "queries_with_positives": len({row.query_id for row in rows if row.label > 0}),
        "without_text": labelled.without_text,
        "clicks": {
            "impressions": log.impressions,
            "clicks": log.clicks,
            "without_impression": log.clicks_without_impression,
            "at_another_position": log.clicks_elsewhere,
            "too_short": log.clicks_too_short,
            "models": dict(sorted(log.models.items())),
            "tiers": dict(sorted(log.tiers.items())),
        },
        "propensities": {
            "values": [round(value, 4) for value in curve.values],
            "estimated_positions": list(curve.estimated),
            "eta": round(curve.eta, 4),
        },
        "judgements": {
            "pairs": len(judgements.labels),
            "annotators": agreement.annotators,
            "judged_by_several": agreement.shared,
            "unknown_query_id": judgements.unknown,
            "disputed": len(labelled.disputes),
            "fleiss_kappa": _rounded(agreement.fleiss),
            "krippendorff_alpha": _rounded(agreement.krippendorff),
            "cohen_kappa": [
                {"annotators": list(names), "kappa": _rounded(kappa), "pairs": count}
                for names, (kappa, count) in agreement.cohen.items()
            ],
        },
        "warnings": _warnings(labelled),
    }


def _warnings(labelled: Labelled) -> list[str]:
    log, curve = labelled.evidence.log, labelled.evidence.propensities
    found = []
    if log.clicks and not curve.estimated:
        found.append(
            "propensities are assumed, not estimated: too few documents were shown at several "
            "positions for the same query. Logs of several models or of an interleaving have them"
        )
    if log.clicks_elsewhere > 0.05 * log.clicks:
        found.append(
            f"{log.clicks_elsewhere} of {log.clicks} clicks were at another position than the "
            "worker's list had: the correction for position is that of the worker's list"
        )
    if (note := labelled.agreement.note()) is not None:
        found.append(note)
    if labelled.without_text:
        found.append(
            f"{labelled.without_text} pairs were left out as their text is not known: set "
            "label.index_bundle, or the worker's feedback.text to `always`"
        )
    splits = {row.split for row in labelled.rows}
    if missing := [split for split in ("train", "dev", "test") if split not in splits]:
        found.append(f"no query fell into {', '.join(missing)}: collect more different ones")
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
