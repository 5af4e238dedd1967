"""Puts the parts together: the only place that knows which implementation stands where."""

import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import structlog

from engine.bundles import Bundle, open_index, open_model
from engine.devices import FIRST, open_lanes
from engine.errors import BundleError
from engine.fusion import fusion_for
from engine.index import Retriever as IndexEngine
from engine.kernels import KERNEL_SCORES, library
from engine.lanes import Lanes
from engine.pairs import PairEncoder
from engine.passages import Passages
from engine.providers import GPU_SCORES
from engine.remote import default_cache, open_cached
from schemas.events import IndexRef, ModelRef
from schemas.manifests import Fusion, IndexManifest, ModelManifest
from worker.admission import Admission
from worker.broker import Broker
from worker.caches import PairCache, RankingCache
from worker.candidates import Retriever
from worker.challenger import Challenger, Trial
from worker.clock import Clock, SystemClock
from worker.errors import StartError
from worker.http import App, Health, serve
from worker.index_retriever import IndexRetriever
from worker.intake import Intake
from worker.kafka_broker import KafkaBroker
from worker.kafka_client import check_topics, make_consumer, make_producer, message_limits
from worker.loop import Loop, Parts
from worker.metrics import Metrics, short_digest
from worker.publish import Publisher
from worker.reranker import Reranker, SmallModel
from worker.routing import Routing, TimeLeft
from worker.routing_build import build_routing, open_cascade
from worker.scoring import PairScorer
from worker.settings import QdrantSettings, Settings
from worker.store import Store, open_store
from worker.threads import cores_of, lanes_of
from worker.watchdog import Watchdog

M = TypeVar("M", ModelManifest, IndexManifest)
log = structlog.get_logger(__name__)

WARM_UP_WORDS = (8, 16, 32, 64, 128)
RECORD_OVERHEAD_BYTES = 64 * 1024


@dataclass(frozen=True)
class Bundles:
    """What the settings name, verified."""

    model: Bundle[ModelManifest]
    index: Bundle[IndexManifest] | None
    small_model: Bundle[ModelManifest] | None = None
    challenger: Bundle[ModelManifest] | None = None
    cascade: Bundle[ModelManifest] | None = None

    @property
    def model_ref(self) -> ModelRef:
        """Return how results name the model."""
        return ref_of(self.model)

    @property
    def index_ref(self) -> IndexRef | None:
        """Return how results name the index."""
        if self.index is None:
            return None
        return IndexRef(name=self.index.manifest.name, digest=self.index.digest)


@dataclass(frozen=True)
class Retrieval:
    """What finds candidates, and the index that would score them alike, where one would."""

    retriever: Retriever | None = None
    scores_like: IndexManifest | None = None


@dataclass(frozen=True)
class Engine:
    """What answers queries, with or without Kafka."""

    reranker: Reranker
    lanes: Lanes
    small_lanes: Lanes | None = None
    challenger_lanes: Lanes | None = None


def build_loop(settings: Settings) -> Loop:
    """Build the worker and start its HTTP server; raises StartError."""
    clock = SystemClock()
    bundles = open_bundles(settings)
    small = None if bundles.small_model is None else ref_of(bundles.small_model)
    challenger = None if bundles.challenger is None else ref_of(bundles.challenger)
    metrics = Metrics(bundles.model_ref, bundles.index_ref, small, challenger)
    store = open_store(settings.redis, metrics.cache_failures.inc)
    engine = build_engine(settings, bundles, store)
    admission = _admission(settings, engine)
    broker = connect(settings)
    health = Health(clock, stale_after_s=settings.kafka.max_poll_interval_ms / 1000)
    serve(App(health, metrics.registry), settings.http)
    parts = Parts(
        broker=broker,
        reranker=replace(engine.reranker, time_left=time_left(admission, clock)),
        admission=admission,
        publisher=Publisher(
            settings.kafka.topics,
            socket.gethostname(),
            settings.feedback.text,
            clock,
            message_limits(settings.kafka),
        ),
        intake=Intake(settings.batch, settings.limits),
        metrics=metrics,
        health=health,
        clock=clock,
    )
    return Loop(parts, settings.batch, settings.drain_timeout_ms / 1000)


def time_left(admission: Admission, clock: Clock) -> TimeLeft:
    """Return what tells a cascade when its smaller model must end: when the model must."""
    return lambda queries, plans: admission.stop_after_s(queries, plans, clock.now())


def _admission(settings: Settings, engine: Engine) -> Admission:
    challenger = engine.reranker.challenger
    wanted = None if challenger is None else challenger.trial.pairs_of
    scores = engine.reranker.routing or engine.lanes
    return Admission(settings.overload, scores, engine.small_lanes, wanted)


def open_bundles(settings: Settings) -> Bundles:
    """Open and verify the bundles; raises StartError."""
    if settings.model_bundle is None:
        raise StartError(
            "model_bundle (RERANKER_MODEL_BUNDLE) must name the folder of a model bundle; "
            "`python -m export model --precision int8 --out DIR` makes one"
        )
    model = _open(open_model, "model_bundle", settings.model_bundle, settings)
    small = settings.overload.model_bundle
    small_model = (
        None if small is None else _open(open_model, "overload.model_bundle", small, settings)
    )
    if small_model is not None and small_model.digest == model.digest:
        raise StartError(
            "overload.model_bundle (RERANKER_OVERLOAD__MODEL_BUNDLE) is model_bundle itself: name "
            "a smaller one, or none"
        )
    index = settings.index_bundle
    opened = None if index is None else _open(open_index, "index_bundle", index, settings)
    cascade = open_cascade(
        settings.cascade, model, lambda at: _open(open_model, "cascade.model_bundle", at, settings)
    )
    return Bundles(model, opened, small_model, open_challenger(settings, model), cascade)


def open_challenger(
    settings: Settings, model: Bundle[ModelManifest]
) -> Bundle[ModelManifest] | None:
    """Open the bundle that is compared with the model's; raises StartError."""
    place = settings.challenger.model_bundle
    if place is None:
        return None
    challenger = _open(open_model, "challenger.model_bundle", place, settings)
    if challenger.digest == model.digest:
        raise StartError(
            "challenger.model_bundle (RERANKER_CHALLENGER__MODEL_BUNDLE) is model_bundle itself: "
            "there is nothing to compare"
        )
    return challenger


def _open(
    open_bundle: Callable[[Path], Bundle[M]], name: str, place: Path | str, settings: Settings
) -> Bundle[M]:
    try:
        if isinstance(place, Path):
            return open_bundle(place)
        kind: Literal["model", "index"] = "index" if name == "index_bundle" else "model"
        return open_cached(place, settings.bundle_cache or default_cache(), open_bundle, kind)
    except BundleError as error:
        variable = "RERANKER_" + name.replace(".", "__").upper()
        raise StartError(f"{name} ({variable}): {error}") from None


def ref_of(bundle: Bundle[ModelManifest]) -> ModelRef:
    """Return how results name a model."""
    manifest = bundle.manifest
    return ModelRef(name=manifest.name, digest=bundle.digest, precision=manifest.precision)


def build_engine(settings: Settings, bundles: Bundles, store: Store) -> Engine:
    """Load models and index, and build what answers queries; raises StartError."""
    small: SmallModel | None = None
    small_lanes: Lanes | None = None
    try:
        scorer, lanes = _scorer(settings, bundles.model, store)
        retrieval = _retrieval(settings, bundles)
        if bundles.small_model is not None:
            small_scorer, small_lanes = _scorer(settings, bundles.small_model, store)
            fusion = _fusion(bundles.small_model, bundles, retrieval)
            small = SmallModel(small_scorer, ref_of(bundles.small_model), fusion)
        challenger, challenger_lanes = _challenger(settings, bundles, store, retrieval)
        routing = _routing(settings, bundles, store, lanes)
    except BundleError as error:
        raise StartError(str(error)) from None
    reranker = Reranker(
        scorer=scorer,
        retriever=retrieval.retriever,
        rankings=_rankings(settings, bundles, store, routing),
        model=bundles.model_ref,
        clock=SystemClock(),
        always_text=settings.feedback.text == "always",
        small=small,
        fusion=_fusion(bundles.model, bundles, retrieval),
        challenger=challenger,
        routing=routing,
    )
    return Engine(reranker, lanes, small_lanes, challenger_lanes)


def _rankings(
    settings: Settings, bundles: Bundles, store: Store, routing: Routing | None
) -> RankingCache | None:
    """Return the cache of whole rankings; None where its key does not say all that decides on one.

    Without an index all candidates come with their events. A collection of Qdrant changes under the
    worker. What a cascade cut has the same key as the list without it.
    """
    if bundles.index is None or settings.qdrant.url is not None or routing is not None:
        return None
    return RankingCache(store, _scored_by(settings, bundles.model.digest), bundles.index.digest)


def _fusion(model: Bundle[ModelManifest], bundles: Bundles, retrieval: Retrieval) -> Fusion | None:
    """Return the model's fusion where it was learnt for such scores; say so where it was not."""
    fusion = fusion_for(model.manifest, retrieval.scores_like)
    learnt_for = None if bundles.index is None else bundles.index.manifest
    if fusion is None and fusion_for(model.manifest, learnt_for) is not None:
        log.warning(
            "retrieval scores are not fused with the model's: they were learnt to go together for "
            "cosines of normalised vectors, which this collection does not give",
            model=model.manifest.name,
        )
    return fusion


def _routing(settings: Settings, bundles: Bundles, store: Store, lanes: Lanes) -> Routing | None:
    if not settings.cascade.on:
        return None
    # Qdrant's scores come from another index, on the same scale only by luck.
    index = None if settings.qdrant.url is not None or bundles.index is None else bundles.index
    return build_routing(
        bundles.model,
        bundles.cascade,
        None if index is None else index.manifest,
        lanes,
        lambda small: _scorer(settings, small, store),
    )


def _challenger(
    settings: Settings, bundles: Bundles, store: Store, retrieval: Retrieval
) -> tuple[Challenger | None, Lanes | None]:
    """Load the model that is compared with the first, where there is one."""
    if bundles.challenger is None:
        return None, None
    scorer, lanes = _scorer(settings, bundles.challenger, store)
    model, champion, wanted = ref_of(bundles.challenger), bundles.model_ref, settings.challenger
    digests = f"{short_digest(champion.digest)}-{short_digest(model.digest)}"
    name = wanted.name or f"{digests}-{wanted.mode}-{wanted.share:g}"
    trial = Trial(name, wanted.mode, wanted.share, wanted.by, champion, model)
    fusion = _fusion(bundles.challenger, bundles, retrieval)
    return Challenger(scorer, model, trial, fusion), lanes


def _scorer(
    settings: Settings, bundle: Bundle[ModelManifest], store: Store
) -> tuple[PairScorer, Lanes]:
    """Load a model and warm it up. Its digest is in its keys, so models share no scores."""
    passages = Passages(settings.passages.most, settings.passages.overlap)
    encoder = PairEncoder.open(bundle, passages)
    lanes = open_lanes(bundle, settings.device, lanes_of(settings), settings.engine_cache)
    if not warm_up(encoder, lanes):
        raise BundleError(
            f"bundle {bundle.path} gives scores that are no finite numbers: export it again, with "
            "another --precision"
        )
    return PairScorer(encoder, lanes, PairCache(store, _scored_by(settings, bundle.digest))), lanes


def _scored_by(settings: Settings, digest: str) -> str:
    """Return what stands for a model in keys of its scores.

    Each device rounds in its own way, GPUs by the options that they are given, and passages score
    otherwise than the beginning alone.
    """
    if settings.device == "cpu":
        digest += f":{KERNEL_SCORES}" if library() is not None else ""
    elif settings.device != "cpu-standard":
        digest += f":{settings.device}"
    if settings.device in FIRST:
        digest += f"-{GPU_SCORES}"
    if settings.passages.most > 1:
        digest += f":{settings.passages.most}/{settings.passages.overlap}"
    return digest


def warm_up(encoder: PairEncoder, lanes: Lanes) -> bool:
    """Score a few pairs: first runs are slower, and admission needs a first measurement.

    Returns whether all scores are finite; a model of which one is not would answer nothing.
    """
    query = encoder.encode_query("what is this")
    documents = [" ".join(["word"] * words) for words in WARM_UP_WORDS for _ in range(lanes.count)]
    return bool(np.isfinite(lanes.submit(encoder.encode(query, documents)).result()).all())


def connect(settings: Settings) -> Broker:
    """Connect to Kafka and check the topics; raises StartError."""
    size = settings.limits.event_bytes + RECORD_OVERHEAD_BYTES
    consumer = make_consumer(settings.kafka, fetch_bytes=size)
    check_topics(consumer, settings.kafka)
    broker = KafkaBroker(consumer, make_producer(settings.kafka), settings.kafka, Watchdog())
    broker.join()
    return broker


def _retrieval(settings: Settings, bundles: Bundles) -> Retrieval:
    """Open what finds candidates; it runs on the CPU, also where a GPU scores."""
    reference, lanes = bundles.index_ref, cores_of(settings)
    if settings.qdrant.url is not None:
        return _qdrant(settings.qdrant, bundles.index, lanes)
    if bundles.index is None or reference is None:
        return Retrieval()
    retriever = IndexRetriever(IndexEngine.open(bundles.index, lanes), reference)
    return Retrieval(retriever, bundles.index.manifest)


def _qdrant(settings: QdrantSettings, index: Bundle[IndexManifest] | None, lanes: int) -> Retrieval:
    if index is None:
        raise StartError(
            "qdrant.url (RERANKER_QDRANT__URL) needs index_bundle (RERANKER_INDEX_BUNDLE): its "
            "embedding model embeds the queries"
        )
    try:
        from worker.qdrant_retriever import open_qdrant  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise StartError(
            "qdrant.url (RERANKER_QDRANT__URL) needs the extra [qdrant]: "
            "pip install 'kafka-reranker[qdrant]'"
        ) from None
    retriever = open_qdrant(settings, index, lanes)
    return Retrieval(retriever, index.manifest if retriever.scores_like(index.manifest) else None)
