"""The cascade that the settings ask for, out of the bundles; StartError where it can't be."""

from collections.abc import Callable
from pathlib import Path

import structlog

from engine.bundles import Bundle
from engine.cascade import retriever_cut
from engine.lanes import Lanes
from schemas.manifests import IndexManifest, ModelManifest
from worker.errors import StartError
from worker.routing import Routing, SmallStage
from worker.scoring import PairScorer
from worker.settings import CascadeSettings

Load = Callable[[Bundle[ModelManifest]], tuple[PairScorer, Lanes]]
Open = Callable[[Path | str], Bundle[ModelManifest]]

log = structlog.get_logger(__name__)

ON = "cascade.on (RERANKER_CASCADE__ON)"
PLACE = "cascade.model_bundle (RERANKER_CASCADE__MODEL_BUNDLE)"


def open_cascade(
    settings: CascadeSettings, model: Bundle[ModelManifest], open_bundle: Open
) -> Bundle[ModelManifest] | None:
    """Open the smaller model's bundle where the cascade needs one."""
    if not settings.on:
        if settings.model_bundle is not None:
            raise StartError(f"{PLACE} is of use with {ON} only")
        return None
    cascade = model.manifest.cascade
    if cascade is None:
        raise StartError(
            f"{ON}: the model bundle has no cascade; `python -m export cascade` chooses one"
        )
    if cascade.small_bundle is None:
        if settings.model_bundle is not None:
            raise StartError(f"{PLACE}: the model bundle's cascade has no smaller model: unset it")
        return None
    if settings.model_bundle is None:
        raise StartError(f"{PLACE} must name the bundle {cascade.small_bundle}")
    small = open_bundle(settings.model_bundle)
    if small.digest != cascade.small_bundle:
        raise StartError(
            f"{PLACE} is {small.digest}, and the cascade was chosen with {cascade.small_bundle}"
        )
    return small


def build_routing(
    model: Bundle[ModelManifest],
    small: Bundle[ModelManifest] | None,
    index: IndexManifest | None,
    lanes: Lanes,
    load: Load,
) -> Routing | None:
    """Return what cuts candidates; None where nothing does."""
    cascade = model.manifest.cascade
    if cascade is None:
        return None
    cut = retriever_cut(cascade, index)
    stage: SmallStage | None = None
    if small is not None and cascade.small is not None:
        scorer, small_lanes = load(small)
        stage = SmallStage(scorer, small_lanes, cascade.small)
    if cut is None and stage is None:
        log.warning("cascade.on cuts nothing: its cut is for another index's retrieval scores")
        return None
    return Routing(cut, stage, lanes)
