"""Logit and retrieval score to one evidence, where the two were learnt to go together."""

from collections.abc import Sequence

from schemas.manifests import Fusion, IndexManifest, ModelManifest


def fusion_for(model: ModelManifest, index: IndexManifest | None) -> Fusion | None:
    """Return the model's fusion if it was learnt for the scores of this index; else None.

    The weight is bound to the scale of one embedding model's scores, so the weights' digest must
    be the same. Scores that an application sends along have no known scale: they are never fused.
    """
    fusion = model.fusion
    if fusion is None or index is None or index.embedder.source.digest != fusion.embedder:
        return None
    return fusion


def fuse(
    fusion: Fusion,
    logits: Sequence[float],
    retrieval_scores: Sequence[float | None],
    documents: Sequence[str],
) -> list[float]:
    """Return the evidence of each pair; where one has no retrieval score, all logits as they are.

    Half a list in log-odds and half in logits would be no order. `documents` are the pairs' texts.
    """
    known = [score for score in retrieval_scores if score is not None]
    if len(known) < len(logits):
        return list(logits)
    return [
        fusion.logit_scale * _heard(fusion, logit, len(document))
        + fusion.retrieval_weight * score
        + fusion.bias
        for logit, score, document in zip(logits, known, documents, strict=True)
    ]


def _heard(fusion: Fusion, logit: float, characters: int) -> float:
    """Return the logit, nearer to one that says nothing the longer the document is."""
    if fusion.full_chars is None or characters <= fusion.full_chars:
        return logit
    return fusion.center + (logit - fusion.center) * fusion.full_chars / characters
