"""The events of the four topics, in the order in which data flows.

A consumer ignores fields that it does not know, so unknown fields are dropped and never an error.
Types are strict: a number in quotes is a mistake of the producer, not a number.
"""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, TypeAdapter, model_validator

MAX_TOP_K = 200
DEFAULT_TOP_K = 100
MAX_CANDIDATES = 1000
MAX_QUERY_CHARS = 16_384
MAX_DEADLINE_MS = 86_400_000
# Headers of a dead letter that are the worker's own begin with it.
DEAD_LETTER_PREFIX = "dlq."
VALUE_OMITTED = "dlq.value.omitted"
HEADERS_OMITTED = "dlq.headers.omitted"
KEY_OMITTED = "dlq.key.omitted"
REPLAYS = "dlq.replays"

NonEmpty = Annotated[str, Field(min_length=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Tier = Literal["full", "reduced", "retrieval_order"]
DegradedReason = Literal["deadline", "overload", "scorer_unavailable"]
Team = Literal["champion", "challenger"]
Arm = Literal["champion", "challenger", "interleaved"]


def _is_none(value: object) -> bool:
    return value is None


class Event(BaseModel):
    """Base of all events: strict types, unknown fields ignored, immutable."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Candidate(Event):
    """A document to be ranked that the application brings along."""

    doc_id: NonEmpty = Field(description="Any non-empty string; passed through untouched.")
    text: str = Field(description="What the cross-encoder reads. May be empty.")
    score: Finite | None = Field(
        default=None, description="The application's own retrieval score, passed through."
    )


class QueryEvent(Event):
    """`rerank.queries`: a question, with its candidates or without.

    Without `candidates` the worker retrieves `top_k` from its index; with them it ranks those.
    """

    query_id: NonEmpty = Field(description="Any non-empty string; the key of everything after.")
    query: Annotated[str, Field(min_length=1, max_length=MAX_QUERY_CHARS, pattern=r"\S")] = Field(
        description="What the user asked. Must hold at least one visible character."
    )
    top_k: Annotated[int, Field(ge=1, le=MAX_TOP_K)] = Field(
        default=DEFAULT_TOP_K, description="How many candidates to retrieve."
    )
    top_n: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)] = Field(
        default=10, description="How many entries the ranked list has at most."
    )
    deadline_ms: Annotated[int, Field(ge=1, le=MAX_DEADLINE_MS)] | None = Field(
        default=None, description="Milliseconds from the record's timestamp."
    )
    candidates: Annotated[tuple[Candidate, ...], Field(max_length=MAX_CANDIDATES)] | None = Field(
        default=None,
        description="Documents to rank, best first as far as the application knows. "
        "Of entries with the same doc_id the first counts.",
    )
    return_text: bool = Field(default=False, description="Whether the list carries texts.")
    tenant: str | None = Field(default=None, description="Passed through to feedback.")
    attributes: dict[str, str] = Field(
        default_factory=dict, description="The application's own; never leaves the worker."
    )


class RankedDocument(Event):
    """One entry of a ranked list."""

    doc_id: NonEmpty
    rank: Annotated[int, Field(ge=1)] = Field(description="1 is best.")
    score: Finite | None = Field(
        description="The cross-encoder's raw logit; null where it was not asked."
    )
    relevance: Annotated[float, Field(ge=0, le=1)] | None = Field(
        description="Sigmoid of `score`; null where `score` is."
    )
    retrieval_rank: Annotated[int, Field(ge=1)] = Field(
        description="Place among the candidates before reranking."
    )
    retrieval_score: Finite | None = Field(
        description="Cosine similarity of the index, or the application's own score."
    )
    truncated: bool = Field(description="True when the model did not read the whole document.")
    text: str | None = Field(
        default=None, exclude_if=_is_none, description="Present when `return_text` was asked."
    )


class ModelRef(Event):
    """Which model scored."""

    name: str
    digest: str
    precision: str


class IndexRef(Event):
    """Which index retrieved."""

    name: str
    digest: str


class CacheCounts(Event):
    """How many of the query's pairs came from the cache."""

    hits: Annotated[int, Field(ge=0)]
    misses: Annotated[int, Field(ge=0)]


class Timings(Event):
    """Milliseconds. `queue` is the record's age when work on it began; `total` ends at ranking."""

    queue: float
    retrieve: float
    score: float
    total: float


class Experiment(Event):
    """A list's part in the comparison of two models; see docs/experiments.md."""

    name: NonEmpty
    mode: Literal["split", "interleave"]
    by: str = Field(description="What is split by: `query_id`, `tenant` or `attributes.NAME`.")
    share: Annotated[float, Field(ge=0, le=1)] = Field(description="Of the challenger.")
    arm: Arm = Field(description="Whose list it is.")
    bucket: Annotated[int, Field(ge=0, lt=1000)] = Field(
        description="A hash of what is split by; says nothing else about it."
    )
    champion: ModelRef
    challenger: ModelRef
    teams: tuple[Team, ...] | None = Field(
        default=None,
        exclude_if=_is_none,
        description="Of an interleaved list: which model picked each entry, in the list's order.",
    )


class RankedList(Event):
    """`rerank.results`: exactly one for each accepted query event, best document first."""

    query_id: NonEmpty
    ranking: tuple[RankedDocument, ...]
    tier: Tier
    degraded: DegradedReason | None = Field(
        default=None, description="Why the tier is not `full`; null when it is."
    )
    model: ModelRef
    index: IndexRef | None = Field(description="Null when the event brought its candidates.")
    cache: CacheCounts
    timings_ms: Timings
    experiment: Experiment | None = Field(
        default=None,
        exclude_if=_is_none,
        description="Present while two models are compared, on the lists that take part.",
    )


class ShownDocument(Event):
    """One entry of a list as it was shown."""

    doc_id: NonEmpty
    rank: Annotated[int, Field(ge=1)]
    score: Finite | None
    retrieval_rank: Annotated[int, Field(ge=1)]
    text: str | None = Field(default=None, exclude_if=_is_none)


class Impression(Event):
    """`rerank.feedback`, written by the worker with each ranked list."""

    kind: Literal["impression"] = "impression"
    query_id: NonEmpty
    query: NonEmpty
    tenant: str | None = None
    model: ModelRef
    tier: Tier = Field(
        default="full",
        description="How the list was made; see `RankedList`. Not all feedback "
        "about a degraded list is feedback about the model.",
    )
    shown: tuple[ShownDocument, ...]
    experiment: Experiment | None = Field(
        default=None,
        exclude_if=_is_none,
        description="Present while two models are compared, on the lists that take part.",
    )


class Click(Event):
    """`rerank.feedback`, written by applications."""

    kind: Literal["click"] = "click"
    query_id: NonEmpty
    doc_id: NonEmpty
    position: Annotated[int, Field(ge=1)]
    dwell_ms: Annotated[int, Field(ge=0)] | None = None


class Judgement(Event):
    """`rerank.feedback`, written by annotators: how well a document answers a query."""

    kind: Literal["judgement"] = "judgement"
    query_id: NonEmpty | None = None
    query: NonEmpty | None = None
    doc_id: NonEmpty | None = None
    text: str | None = None
    grade: Annotated[int, Field(ge=0, le=3)]
    annotator: NonEmpty

    @model_validator(mode="after")
    def _names_both_sides(self) -> "Judgement":
        if self.query_id is None and self.query is None:
            raise ValueError("a judgement needs query_id or query")
        if self.doc_id is None and self.text is None:
            raise ValueError("a judgement needs doc_id or text")
        return self


FeedbackEvent = Annotated[Impression | Click | Judgement, Discriminator("kind")]
feedback_adapter: TypeAdapter[Impression | Click | Judgement] = TypeAdapter(FeedbackEvent)


class DeadLetterHeaders(Event):
    """Headers that the worker adds to a dead letter; key, value and other headers are the original.

    Where the topic takes less than the record has, value, other headers and key are left out in
    this order, and `dlq.*.omitted` say so. Each is UTF-8 text. `dlq.error.message` holds at most
    1,024 bytes and never the record's value.
    """

    model_config = ConfigDict(validate_by_name=True)

    topic: str = Field(alias="dlq.topic")
    partition: int = Field(alias="dlq.partition")
    offset: int = Field(alias="dlq.offset")
    timestamp: int = Field(alias="dlq.timestamp", description="Of the original record, in ms.")
    error_class: str = Field(alias="dlq.error.class")
    error_message: str = Field(alias="dlq.error.message")
    worker: str = Field(alias="dlq.worker")
    value_omitted: int | None = Field(
        default=None,
        alias=VALUE_OMITTED,
        exclude_if=_is_none,
        description="Bytes of the value, which was too large for the topic.",
    )
    headers_omitted: int | None = Field(
        default=None,
        alias=HEADERS_OMITTED,
        exclude_if=_is_none,
        description="How many of the record's headers were too large for the topic.",
    )
    key_omitted: int | None = Field(
        default=None,
        alias=KEY_OMITTED,
        exclude_if=_is_none,
        description="Bytes of the key, which was too large for the topic.",
    )
    replays: int | None = Field(default=None, alias=REPLAYS, exclude_if=_is_none)

    @classmethod
    def of(cls, headers: Iterable[tuple[str, bytes | None]]) -> "DeadLetterHeaders":
        """Read them from a record's headers; raises ValueError where one is missing or wrong."""
        texts = {
            name: value.decode()
            for name, value in headers
            if name.startswith(DEAD_LETTER_PREFIX) and value is not None
        }
        return cls.model_validate(texts, strict=False, by_alias=True, by_name=False)
