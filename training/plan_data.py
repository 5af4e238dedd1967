"""The plan's sections for data: what is collected, how it is labelled, what a machine annotates."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class _Section(BaseModel):
    """A misspelt field is a mistake, not a wish that is silently left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaPlan(_Section):
    """The feedback topic. Passwords come from the environment, never from this file."""

    bootstrap_servers: str = Field(default="localhost:9092", description="host:port, by commas.")
    topic: str = "rerank.feedback"
    group_id: str = Field(default="kafka-reranker-training", description="A group of its own.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = (
        Field(
            default=None,
            description="With it, the environment holds user and password; of OAUTHBEARER, "
            "`sasl_oauth_token_file` the token.",
        )
    )
    sasl_username_env: str = Field(
        default="RERANKER_KAFKA__SASL_USERNAME", description="Variable that holds the user's name."
    )
    sasl_password_env: str = Field(
        default="RERANKER_KAFKA__SASL_PASSWORD", description="Variable that holds the password."
    )
    sasl_oauth_token_file: Path | None = Field(
        default=None, description="Read for each connection, so that a renewed token is used."
    )
    ssl_cafile: Path | None = Field(default=None, description="PEM of the authority.")
    ssl_certfile: Path | None = Field(default=None, description="PEM of the client's certificate.")
    ssl_keyfile: Path | None = Field(default=None, description="PEM of the client's key.")
    timeout_s: float = Field(default=30.0, gt=0.0, description="To connect, and between answers.")
    embedded: bool = Field(
        default=False,
        description="For the demo's embedded broker, which can't be asked for its version.",
    )

    @model_validator(mode="after")
    def _token_is_somewhere(self) -> Self:
        if (self.sasl_mechanism == "OAUTHBEARER") != (self.sasl_oauth_token_file is not None):
            raise ValueError("sasl_mechanism OAUTHBEARER and sasl_oauth_token_file go together")
        return self


class JudgementFile(_Section):
    """Judgements in a file: JSON lines, or CSV with a header."""

    path: Path
    format: Literal["auto", "jsonl", "csv"] = Field(
        default="auto", description="`auto` goes by the name: .csv, or else JSON lines."
    )
    label_max: float = Field(
        default=1.0, gt=0.0, description="What `label` means best; `grade` is always 0-3."
    )
    annotator: str | None = Field(
        default=None, description="Of lines that name none; unsaid, the file's name."
    )


class CollectPlan(_Section):
    """`collect`: the feedback topic and files of judgements into `events/`."""

    kafka: KafkaPlan | None = Field(default=None, description="Left out, no topic is read.")
    files: list[JudgementFile] = Field(default=[], examples=[[{"path": "my_rerank_data.jsonl"}]])
    keep_user_ids: bool = Field(
        default=False, description="Otherwise `user`, `user_id` and `attributes` stay behind."
    )
    max_bad_share: Share = Field(
        default=0.05, description="More malformed lines or records than this are refused."
    )
    flush_rows: PositiveInt = Field(default=50_000, description="Rows in memory, at most.")
    flush_bytes: PositiveInt = Field(
        default=64 * 1024 * 1024, description="Bytes of records in memory, at most."
    )


class SplitPlan(_Section):
    """Shares of the queries, by a hash of their text: a query never changes its split."""

    dev: Share = 0.1
    test: Share = 0.2

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        if self.dev + self.test >= 1.0:
            raise ValueError("dev and test together must leave something to train on (below 1)")
        return self


class ClickPlan(_Section):
    """Clicks, corrected for the place where they happened."""

    propensity: Literal["estimate", "assume"] = Field(
        default="estimate",
        description="`estimate` from documents that were shown at several positions for the same "
        "query; `assume` 1 / position ** eta.",
    )
    eta: float = Field(
        default=1.0, ge=0.0, description="Of `assume`, and where the log says nothing."
    )
    max_position: PositiveInt = Field(
        default=20, description="Deeper positions share the last one's propensity."
    )
    min_impressions: PositiveInt = Field(
        default=50, description="Impressions of moved documents that an estimate needs, a position."
    )
    clip: float = Field(default=10.0, ge=1.0, description="Largest inverse-propensity weight.")
    min_dwell_ms: NonNegativeInt = Field(
        default=0, description="A click that was left sooner is none; without dwell it counts."
    )


class AgreementPlan(_Section):
    """Judgements of several people about one pair."""

    consensus: Literal["mean", "median", "majority"] = Field(
        default="median", description="`majority` takes the lower of equal camps."
    )
    max_spread: Share = Field(
        default=0.34,
        description="Labels (0-1) of a pair that lie further apart are listed for adjudication.",
    )
    disputed: Literal["drop", "downweight", "keep"] = "downweight"
    disputed_weight: Share = Field(default=0.3, description="Of `downweight`.")
    adjudicators: list[str] = Field(
        default=["adjudicator"], description="Annotators whose word ends a dispute."
    )


class MinePlan(_Section):
    """Hard negatives: what the retriever finds and nobody judged."""

    per_query: NonNegativeInt = Field(default=8, description="0 mines none.")
    from_rank: PositiveInt = 5
    to_rank: PositiveInt = Field(default=100, le=1000)
    max_share_of_positive: float = Field(
        default=0.95,
        gt=0.0,
        description="A document that the retriever finds nearly as good as the positive may be "
        "one: those with a higher share of its score are left out.",
    )
    weight: Share = Field(default=0.5, description="A mined label is less sure than a judged one.")

    @model_validator(mode="after")
    def _ascends(self) -> Self:
        if self.from_rank > self.to_rank:
            raise ValueError("from_rank must not be greater than to_rank")
        return self


class LabelPlan(_Section):
    """`label`: events into `labels/groups.parquet`, with a report."""

    seed: int = 13
    index_bundle: Path | None = Field(
        default=None, description="For texts of documents, retrieval scores and hard negatives."
    )
    split: SplitPlan = SplitPlan()
    clicks: ClickPlan = ClickPlan()
    agreement: AgreementPlan = AgreementPlan()
    mine: MinePlan = MinePlan()


class LlmPlan(_Section):
    """Grades by a language model behind an OpenAI-compatible endpoint."""

    endpoint: str = Field(
        default="http://localhost:8000/v1", description="What comes before /chat/completions."
    )
    model: str
    api_key_env: str = Field(
        default="OPENAI_API_KEY", description="Variable that holds the key; unset, none is sent."
    )
    max_calls: PositiveInt = Field(
        default=1000, description="Budget of one run, further tries included."
    )
    max_tokens: PositiveInt = Field(
        default=1_000_000,
        description="Budget of one run, as the endpoint counts; what is under way is let finish.",
    )
    concurrency: PositiveInt = Field(default=4, le=64)
    attempts: PositiveInt = Field(default=4, description="A pair, with growing pauses.")
    timeout_s: float = Field(default=60.0, gt=0.0)
    max_document_chars: PositiveInt = Field(default=4000, description="The rest isn't sent.")
    documents_per_query: PositiveInt = Field(
        default=10, description="The best as shown. Texts that events lack: label.index_bundle."
    )
    json_mode: bool = Field(default=True, description="Asks for `response_format: json_object`.")
    instructions: str | None = Field(
        default=None, description="What relevant means here; comes before the fixed scale."
    )


class CorpusPairsPlan(_Section):
    """Questions made of the corpus itself, kept where the retriever finds the document."""

    path: Path = Field(description="corpus.jsonl or .jsonl.gz, in BEIR's format.")
    index_bundle: Path = Field(description="Whose retriever decides.")
    pairs: list[Literal["title", "first_sentence"]] = Field(
        default=["title", "first_sentence"],
        description="title ↔ body, first sentence ↔ the rest.",
    )
    top_k: PositiveInt = Field(default=10, le=1000, description="Found within these, or left out.")
    max_pairs: PositiveInt = 5000
    min_query_words: PositiveInt = 3
    min_document_words: PositiveInt = 8


class AnnotatePlan(_Section):
    """`annotate` (optional): labels by a machine, into `annotated/`; `label` takes them up."""

    seed: int = 13
    weight: Share = Field(default=0.7, description="Of a label that a machine made.")
    llm: LlmPlan | None = Field(default=None, examples=[{"model": "my-model"}])
    corpus: CorpusPairsPlan | None = Field(
        default=None,
        examples=[{"path": "corpus.jsonl", "index_bundle": "build/index"}],
    )
