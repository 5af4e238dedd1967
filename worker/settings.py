"""All settings of the worker, read once: flags over environment over files over defaults.

Environment variables are named `RERANKER_` plus the path with `__`, for instance
`RERANKER_KAFKA__GROUP_ID`. A TOML file can be named with RERANKER_SETTINGS_FILE, and a folder of
secrets with RERANKER_SECRETS_DIR: each file in it is named like a variable and holds its value.
"""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

SETTINGS_FILE_VARIABLE = "RERANKER_SETTINGS_FILE"
SECRETS_DIR_VARIABLE = "RERANKER_SECRETS_DIR"
MAX_SECRETS_BYTES = 1024 * 1024

Milliseconds = Annotated[int, Field(ge=1)]
Positive = Annotated[int, Field(ge=1)]


def _place(value: Path | str) -> Path | str:
    """Keep an address as it is: a Path would make one slash of two."""
    return value if "://" in str(value) else Path(value)


# A folder, as Path, or an address such as s3://bucket/folder, as str.
BundlePlace = Annotated[Path | str, AfterValidator(_place)]


class Section(BaseModel):
    """A part of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _longer(settings: BaseModel, longer: str, shorter: str) -> None:
    if getattr(settings, longer) <= getattr(settings, shorter):
        raise ValueError(f"{longer} must be above {shorter} ({getattr(settings, shorter)})")


class TopicSettings(Section):
    """Names of the topics; they must exist."""

    queries: str = Field("rerank.queries", description="Query events are read from here.")
    results: str = Field("rerank.results", description="Ranked lists go here.")
    feedback: str = Field("rerank.feedback", description="Impressions go here.")
    dead_letters: str = Field("rerank.dead-letters", description="Records that can't be answered.")


class KafkaSettings(Section):
    """The broker, the group, and the time-outs that exactly-once depends on."""

    bootstrap_servers: str = Field(
        "localhost:9092", description="host:port, comma separated. Two or three are enough."
    )
    group_id: str = Field(
        "kafka-reranker", description="Workers with the same group share the partitions."
    )
    topics: TopicSettings = TopicSettings()
    transactional_id: str | None = Field(
        None, description="Default: group, host and a random part. Must differ between workers."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    sasl_oauth_token_file: Path | None = Field(
        None, description="A file with the bearer token; read again for each connection."
    )
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_password: SecretStr | None = None
    session_timeout_ms: Milliseconds = Field(
        10_000,
        description="A worker silent for so long loses its partitions. Lower finds dead "
        "workers sooner, higher forgives long pauses.",
    )
    max_poll_interval_ms: Milliseconds = Field(
        60_000, description="The longest that the loop may take between two polls."
    )
    request_timeout_ms: Milliseconds = Field(
        4_000, description="The longest that one request to the broker may take."
    )
    delivery_timeout_ms: Milliseconds = Field(
        6_000, description="The longest that a result may wait for its acknowledgement."
    )
    transaction_timeout_ms: Milliseconds = Field(
        10_000,
        description="The broker aborts a transaction that is open for longer. Readers of "
        "the results wait so long for a worker that died in the middle of a commit.",
    )
    watchdog_margin_ms: Milliseconds = Field(
        3_000, description="A commit longer than transaction_timeout_ms plus this ends the process."
    )
    start_timeout_ms: Milliseconds = Field(
        20_000, description="Start fails when the broker can't be reached for so long."
    )
    compression: Literal["none", "gzip", "lz4", "zstd"] = Field(
        "lz4", description="Codec of what the worker writes."
    )
    isolation_level: Literal["read_committed"] = Field(
        "read_committed", description="Anything else would lose exactly-once (KIP-447)."
    )
    auto_offset_reset: Literal["earliest"] = Field(
        "earliest", description="`latest` would skip events that came before the first worker."
    )
    enable_auto_commit: Literal[False] = Field(
        False, description="Offsets are committed in the results' transaction only."
    )
    embedded: bool = Field(
        False, description="For the demo's embedded broker, which knows no real transactions."
    )

    @model_validator(mode="after")
    def _time_outs_fit_together(self) -> Self:
        _longer(self, "delivery_timeout_ms", "request_timeout_ms")
        _longer(self, "transaction_timeout_ms", "delivery_timeout_ms")
        _longer(self, "max_poll_interval_ms", "transaction_timeout_ms")
        _longer(self, "max_poll_interval_ms", "session_timeout_ms")
        return self

    @model_validator(mode="after")
    def _credentials_fit_the_protocol(self) -> Self:
        sasl = self.security_protocol.startswith("SASL")
        if sasl and self.sasl_mechanism is None:
            raise ValueError("sasl_mechanism must be set with this security_protocol")
        if not sasl and self.sasl_mechanism is not None:
            raise ValueError("sasl_mechanism needs security_protocol SASL_SSL or SASL_PLAINTEXT")
        if self.sasl_mechanism == "OAUTHBEARER" and self.sasl_oauth_token_file is None:
            raise ValueError("OAUTHBEARER needs sasl_oauth_token_file")
        if sasl and self.sasl_mechanism != "OAUTHBEARER" and not self._has_password():
            raise ValueError("sasl_username and sasl_password must be set with this mechanism")
        return self

    def _has_password(self) -> bool:
        return self.sasl_username is not None and self.sasl_password is not None


class RedisSettings(Section):
    """The cache. A worker goes on without it."""

    url: SecretStr = Field(
        SecretStr("memory://"),
        description="redis://…, rediss://…, unix://…, or memory:// for a cache inside the worker.",
    )
    timeout_ms: Milliseconds = Field(
        100, description="A slower answer counts as none; what a batch can lose to a sick Redis."
    )
    failures: Positive = Field(
        3,
        description="After so many failures in a row Redis is left alone; one slow answer is no "
        "reason to. An outage costs so many time-outs, then one at each try.",
    )
    retry_after_ms: Milliseconds = Field(
        5_000, description="After failures Redis is left alone for so long, then tried once."
    )
    ttl_s: Positive = Field(
        86_400, description="Age at which a score is forgotten, less up to a tenth at random."
    )
    memory_bytes: Positive = Field(
        64 * 1024 * 1024, description="Budget of memory://; the least recently used goes first."
    )


class BatchSettings(Section):
    """How much is worked on at a time."""

    max_events: Positive = Field(
        32,
        description="Events of one batch and transaction. More raises throughput, and the "
        "latency of each under load.",
    )
    max_pairs: Positive = Field(
        1_024,
        description="Pairs of one batch, unless a single event has more. Events of a batch "
        "are answered together: fewer pairs answer sooner, more waste less on short batches.",
    )
    prefetch: Annotated[int, Field(ge=0)] = Field(
        1, description="Batches that wait, tokenised, while one is scored."
    )
    lanes: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Threads that score, one core each, and as many that embed queries and search "
        "the index, on the CPU with any device. 0: as many as the process may use; on a GPU, which "
        "they only feed, 2 that score.",
    )


class LimitSettings(Section):
    """Bounds on what comes from outside. More than this is a dead letter."""

    event_bytes: Positive = Field(8 * 1024 * 1024, description="Size of a record's value.")
    text_chars: Positive = Field(10_000_000, description="Length of one candidate's text.")


class OverloadSettings(Section):
    """What gives way first when more comes than can be scored."""

    target_age_ms: Milliseconds | None = Field(
        None,
        description="Age of an event at its answer that the worker tries to keep even "
        "without a deadline. Unset: events without a deadline wait as long as it takes.",
    )
    min_candidates: Positive = Field(
        10,
        description="Fewer than this are not worth scoring: the smaller model takes over, or "
        "retrieval order is answered.",
    )
    model_bundle: BundlePlace | None = Field(
        None,
        description="Folder or address of a smaller, faster model bundle. It scores when there is "
        "no time for min_candidates by the model; its answers are of tier reduced and name it.",
    )


class ChallengerSettings(Section):
    """A second model that is compared with the first on live traffic; see docs/experiments.md."""

    model_bundle: BundlePlace | None = Field(
        None,
        description="Folder or address of the challenger's bundle. Unset: nothing is compared.",
    )
    share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5,
        description="Of the traffic: split: what the challenger answers; interleave: what both do.",
    )
    mode: Literal["split", "interleave"] = Field(
        "split",
        description="split: each query is answered by one of the two. interleave: by both, in one "
        "list; finds a difference with far fewer clicks, for twice the work.",
    )
    by: Annotated[str, Field(pattern=r"^(query_id|tenant|attributes\..+)$")] = Field(
        "query_id",
        description="What is split by: query_id, tenant, or attributes.NAME. Who agrees in it sees "
        "the same model.",
    )
    name: str | None = Field(
        None,
        description="Another name draws the traffic anew. Default: from both models' digests, "
        "mode and share.",
    )


class PassageSettings(Section):
    """Long documents; for models that read few tokens. Costs a pair for each passage."""

    most: Positive = Field(
        1,
        description="A document is scored as at most so many passages of the model's length, and "
        "its best passage counts. 1: only what fits into one is read.",
    )
    overlap: Annotated[int, Field(ge=0)] = Field(
        32, description="Tokens that a passage shares with the next; at most half of it."
    )


class CascadeSettings(Section):
    """Cheaper scores decide which candidates the model scores; see docs/performance.md."""

    on: bool = Field(
        False,
        description="Use the cascade of the model bundle, which `python -m export cascade` chose.",
    )
    model_bundle: BundlePlace | None = Field(
        None,
        description="Folder or address of the smaller model's bundle, where the cascade has one.",
    )


class FeedbackSettings(Section):
    """What impressions carry."""

    text: Literal["never", "inline", "always"] = Field(
        "inline",
        description="Whether impressions hold texts: of candidates that came with the "
        "event and are in no index, of all, or of none.",
    )


class QdrantSettings(Section):
    """Candidates from a Qdrant collection instead of the index bundle (extra [qdrant])."""

    url: str | None = Field(
        None,
        description="http(s)://host:6333. With it, candidates come from Qdrant, and of the index "
        "bundle only the embedding model is used, for the queries.",
    )
    api_key: SecretStr | None = None
    collection: str = Field("documents", description="Its vectors come from the same model.")
    vector: str | None = Field(None, description="Name of the vector, where it has one.")
    id_field: str = Field(
        "doc_id", description="Payload field of the document's id; without it, the point's id."
    )
    text_field: str = Field("text", description="Payload field of the document's text.")
    timeout_ms: Milliseconds = Field(
        5_000,
        description="A slower answer counts as none: the batch is tried again. Whole seconds.",
    )


class HttpSettings(Section):
    """`/livez`, `/readyz`, `/metrics`, and nothing else."""

    host: str = "0.0.0.0"  # noqa: S104 - probes and scrapers come from other hosts
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8080, description="0: a free one.")


class LogSettings(Section):
    """Logs on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "text"] = Field(
        "auto", description="auto: text on a terminal, JSON elsewhere."
    )


class Settings(BaseSettings):
    """All settings of the worker."""

    model_config = SettingsConfigDict(
        env_prefix="RERANKER_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    model_bundle: BundlePlace | None = Field(
        None,
        description="Folder of the model bundle, or its address (s3://, gs://, hf://: extra "
        "[remote]). Required.",
    )
    index_bundle: BundlePlace | None = Field(
        None,
        description="Folder or address of the index bundle. Without it events must bring "
        "candidates.",
    )
    bundle_cache: Path | None = Field(
        None,
        description="Where bundles from addresses are kept, a folder for each digest. Default: "
        "kafka-reranker/bundles in the user's cache folder.",
    )
    device: Literal["cpu", "cpu-standard", "openvino", "cuda", "tensorrt"] = Field(
        "cpu",
        description="What scores. cpu: with kernels of the engine's own, where they were built and "
        "the CPU has AVX-512 VNNI; cpu-standard: never with these. openvino: the CPU too, with the "
        "extra [openvino]. cuda and tensorrt need the extra [gpu], one GPU a worker and bundles in "
        "fp16 or fp32. Scores differ a little between them.",
    )
    engine_cache: Path | None = Field(
        None,
        description="device=tensorrt: where engines that were built are kept, for the next start. "
        "Default: kafka-reranker/engines in the user's cache folder.",
    )
    qdrant: QdrantSettings = QdrantSettings()
    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    batch: BatchSettings = BatchSettings()
    limits: LimitSettings = LimitSettings()
    overload: OverloadSettings = OverloadSettings()
    challenger: ChallengerSettings = ChallengerSettings()
    passages: PassageSettings = PassageSettings()
    cascade: CascadeSettings = CascadeSettings()
    feedback: FeedbackSettings = FeedbackSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()
    drain_timeout_ms: Milliseconds = Field(
        20_000,
        description="After SIGTERM, batches in work have so long to be committed. Keep "
        "terminationGracePeriodSeconds above it.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the names are the interface
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then environment, then secrets, then the settings file."""
        name = os.environ.get(SETTINGS_FILE_VARIABLE)
        if name is not None and not Path(name).is_file():
            raise FileNotFoundError(f"{SETTINGS_FILE_VARIABLE}: there is no file {name}")
        file = TomlConfigSettingsSource(settings_cls, name)
        folder = os.environ.get(SECRETS_DIR_VARIABLE)
        if folder is not None and not Path(folder).is_dir():
            raise FileNotFoundError(f"{SECRETS_DIR_VARIABLE}: there is no folder {folder}")
        secrets = NestedSecretsSettingsSource(
            file_secret_settings, secrets_dir=folder, secrets_dir_max_size=MAX_SECRETS_BYTES
        )
        return init_settings, env_settings, secrets, file
