"""What the worker measures of itself; `docs/operations.md` says what each figure means."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from schemas.events import IndexRef, ModelRef
from worker.records import Partition

PREFIX = "kafka_reranker"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Metrics:
    """All metrics on one registry. `model` labels hold the first 12 hex digits of the digest."""

    def __init__(
        self,
        model: ModelRef,
        index: IndexRef | None,
        small: ModelRef | None = None,
        challenger: ModelRef | None = None,
    ) -> None:
        self.registry = CollectorRegistry()
        self.model = short_digest(model.digest)
        self.answers = self._counter(
            "answers", "Ranked lists that were committed", "model", "tier", "degraded"
        )
        self.dead_letters = self._counter(
            "dead_letters", "Records that became dead letters", "model", "stage"
        )
        self.age = self._histogram("event_age_seconds", "Age of an event at its commit", SECONDS)
        self.stages = self._histogram("stage_seconds", "Duration of a stage", SECONDS, "stage")
        self.batch_events = self._histogram("batch_events", "Events of a batch", COUNTS)
        self.batch_pairs = self._histogram("batch_pairs", "Pairs scored for a batch", COUNTS)
        self.tokens = self._counter(
            "tokens", "Tokens that the model read (padded: those that pad)", "model", "kind"
        )
        self.pairs = self._counter("pairs", "Pairs by where their score came from", "model", "from")
        self.cache_failures = self._counter("cache_failures", "Round trips without an answer")
        self.commits = self._counter("commits", "Transactions by their end", "result")
        self.moves = self._counter("rebalances", "Times that partitions came or went")
        self.assigned = self._gauge("assigned_partitions", "Partitions that this worker reads")
        self.lag = Gauge(
            f"{PREFIX}_lag_records",
            "Records behind the position of an assigned partition",
            ["topic", "partition"],
            registry=self.registry,
        )
        self.capacity = self._gauge("capacity_pairs_per_second", "Measured speed of all lanes")
        self.waiting = self._gauge("waiting_events", "Events read and not yet in a batch")
        self.polled = self._gauge("last_poll_timestamp_seconds", "Unix time of the last poll")
        self._describe(model, index, {"small_model": small, "challenger_model": challenger})

    def set_lag(self, lag: Mapping[Partition, int]) -> None:
        """Replace the lag of all partitions; those that went away are no longer shown."""
        self.lag.clear()
        for partition, records in lag.items():
            self.lag.labels(partition.topic, str(partition.number)).set(records)

    def _describe(
        self, model: ModelRef, index: IndexRef | None, others: Mapping[str, ModelRef | None]
    ) -> None:
        info = Info(f"{PREFIX}_bundles", "What is served", registry=self.registry)
        info.info(
            {
                "model_name": model.name,
                "model_digest": model.digest,
                "model_precision": model.precision,
                "index_name": index.name if index else "",
                "index_digest": index.digest if index else "",
            }
            | {
                f"{name}_{field}": str(getattr(other, field)) if other else ""
                for name, other in others.items()
                for field in ("name", "digest", "precision")
            }
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", text, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", text, labels, buckets=buckets, registry=self.registry)


def short_digest(digest: str) -> str:
    """Return the first 12 hex digits."""
    return digest.removeprefix("sha256:")[:12]
