"""Logits to an order."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.fusion import fuse
from schemas.events import RankedDocument
from schemas.manifests import Fusion
from worker.candidates import Candidate


@dataclass(frozen=True, slots=True)
class Score:
    """What is said of a pair: the model's logit, or once fused, the evidence in its place.

    `logit` is finite, `truncated` as in `RankedDocument`.
    """

    logit: float
    truncated: bool


def with_retrieval(
    fusion: Fusion | None, candidates: Sequence[Candidate], scores: Sequence[Score]
) -> Sequence[Score]:
    """Return the first candidates' scores with their retrieval scores fused in, where they may be.

    What is cached of a pair is its logit: fusing costs nothing, and not all lists are fused.
    """
    if fusion is None:
        return scores
    logits = [score.logit for score in scores]
    scored = candidates[: len(scores)]
    fused = fuse(
        fusion, logits, [each.retrieval_score for each in scored], [each.text for each in scored]
    )
    return [replace(score, logit=each) for score, each in zip(scores, fused, strict=True)]


def rank(
    candidates: Sequence[Candidate], scores: Sequence[Score], top_n: int
) -> tuple[RankedDocument, ...]:
    """Return the `top_n` best with their texts: by logit, ties by retrieval rank.

    `scores` belong to the first candidates; those beyond follow unscored in retrieval order. So
    no scores at all give the retrieval order.
    """
    scored = sorted(
        zip(candidates, scores, strict=False),
        key=lambda pair: (-pair[1].logit, pair[0].retrieval_rank),
    )
    rest = sorted(candidates[len(scores) :], key=lambda candidate: candidate.retrieval_rank)
    unscored = [(candidate, None) for candidate in rest]
    return tuple(
        _entry(place, candidate, score)
        for place, (candidate, score) in enumerate([*scored, *unscored][:top_n], start=1)
    )


def sigmoid(logit: float) -> float:
    """Return 1 / (1 + exp(-logit)) without overflow."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    power = math.exp(logit)
    return power / (1 + power)


def _entry(place: int, candidate: Candidate, score: Score | None) -> RankedDocument:
    return RankedDocument.model_construct(
        doc_id=candidate.doc_id,
        rank=place,
        score=None if score is None else score.logit,
        relevance=None if score is None else sigmoid(score.logit),
        retrieval_rank=candidate.retrieval_rank,
        retrieval_score=candidate.retrieval_score,
        truncated=score is not None and score.truncated,
        text=candidate.text,
    )
