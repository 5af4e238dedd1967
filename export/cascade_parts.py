"""Candidates of a test collection under a cascade: who is scored by which model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

from engine.bundles import Bundle
from engine.cascade import by_retriever, retriever_cut, survivors
from engine.errors import BundleError
from engine.passages import ONE_PASSAGE, Passages
from engine.score import Scorer
from export.bars import progress
from export.reranking import QUERIES_AT_ONCE, Candidates
from schemas.manifests import Cascade, IndexManifest, ModelManifest

Scores = dict[str, list[float]]


@dataclass(frozen=True)
class Thinned:
    """The candidates that the model is to score, and how many the smaller one scored."""

    candidates: Candidates
    small_pairs: int


def small_of(
    model: Bundle[ModelManifest], small: Bundle[ModelManifest] | None
) -> Bundle[ModelManifest] | None:
    """Check that `small` is the bundle that the model's cascade was chosen with, and return it.

    Raises BundleError.
    """
    cascade = model.manifest.cascade
    if cascade is None:
        raise BundleError(
            f"{model.path} has no cascade: `python -m export cascade` chooses one for it"
        )
    wanted = cascade.small_bundle
    if wanted is not None and (small is None or small.digest != wanted):
        raise BundleError(
            f"the cascade of {model.path} needs the smaller model's bundle {wanted}"
            + ("" if small is None else f", and {small.path} is {small.digest}")
        )
    return small if wanted is not None else None


def score_candidates(scorer: Scorer, queries: Mapping[str, str], candidates: Candidates) -> Scores:
    """Return the logits of each query's candidates, in their order; NaN where there is none."""
    scores: Scores = {}
    names = list(candidates)
    with progress(f"scoring, {scorer.lanes.count} lanes", sum(map(len, candidates.values()))) as on:
        for start in range(0, len(names), QUERIES_AT_ONCE):
            chunk = names[start : start + QUERIES_AT_ONCE]
            readable = [name for name in chunk if scorer.encoder.fits(queries[name])]
            pairs = [(queries[name], hit.text) for name in readable for hit in candidates[name]]
            found = iter(scorer.score(pairs))
            for name in chunk:
                known = name in readable
                scores[name] = [next(found).logit if known else nan for _ in candidates[name]]
            on(sum(len(candidates[name]) for name in chunk))
    return scores


@dataclass(frozen=True)
class Stages:
    """A cascade, the index that its candidates come from, and the smaller model if it has one.

    The smaller model reads long documents in the same passages as the model.
    """

    cascade: Cascade | None
    index: IndexManifest
    small: Bundle[ModelManifest] | None
    passages: Passages = ONE_PASSAGE


def thin(stages: Stages, queries: Mapping[str, str], candidates: Candidates, lanes: int) -> Thinned:
    """Cut the candidates as the worker does."""
    cascade, small = stages.cascade, stages.small
    if cascade is None:
        return Thinned(candidates, 0)
    cut = retriever_cut(cascade, stages.index)
    left = {
        name: [hits[at] for at in by_retriever(cut, [hit.score for hit in hits])]
        for name, hits in candidates.items()
    }
    if small is None or cascade.small is None:
        return Thinned(left, 0)
    scorer = Scorer.open(small, lanes, stages.passages)
    try:
        logits = score_candidates(scorer, queries, left)
    finally:
        scorer.close()
    chosen = {
        name: [hits[at] for at in survivors(cascade.small, logits[name])]
        for name, hits in left.items()
    }
    return Thinned(chosen, sum(map(len, left.values())))


def with_tails(
    rankings: Mapping[str, Sequence[str]], candidates: Candidates
) -> dict[str, list[str]]:
    """Return the rankings with what was cut behind it, as retrieved."""
    whole: dict[str, list[str]] = {}
    for name, hits in candidates.items():
        ranked = list(rankings[name])
        known = set(ranked)
        whole[name] = ranked + [hit.doc_id for hit in hits if hit.doc_id not in known]
    return whole
