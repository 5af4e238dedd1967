"""Manifests of bundles: what a folder holds, where it came from, and the digest that names it."""

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

SHA256 = r"^sha256:[0-9a-f]{64}$"
Digest = Annotated[str, Field(pattern=SHA256)]
Precision = Literal["fp32", "fp16", "int8", "int4"]

# A path inside a bundle: no absolute path, no "..", no backslash, so that a manifest
# from elsewhere can never name a file outside its folder.
FileName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$")
]


class ManifestPart(BaseModel):
    """Base of all parts of a manifest: immutable; a later minor version may add fields."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class BundledFile(ManifestPart):
    """A file of the bundle."""

    sha256: Digest
    bytes: Annotated[int, Field(ge=0)]


class Source(ManifestPart):
    """Where weights came from. `digest` covers the weight file itself."""

    name: str
    digest: Digest


class PairTemplate(ManifestPart):
    """How query and document become one sequence of token ids.

    `prefix + query[:max_query_tokens] + infix + document + suffix`, all as token ids. Only the
    document is cut, at `truncation_side`, so that the whole is at most `max_tokens` long.
    Token types are 0 up to and including `infix`, and 1 after it where `token_types` is true.
    The texts `query_prefix`, `query_suffix` and `document_prefix` are tokenised together with what
    they stand beside: where a word begins decides about its tokens.
    """

    prefix: tuple[int, ...]
    infix: tuple[int, ...]
    suffix: tuple[int, ...]
    max_tokens: Annotated[int, Field(ge=8)]
    max_query_tokens: Annotated[int, Field(ge=1)]
    token_types: bool
    query_prefix: str = ""
    query_suffix: str = ""
    document_prefix: str = ""
    truncation_side: Literal["right", "left"] = "right"


class Measures(ManifestPart):
    """Evaluation of one model on one collection, by `ir-measures` names (`nDCG@10`, ...)."""

    collection: str
    queries: int
    values: dict[str, float]


class Verification(ManifestPart):
    """The evaluation that let a bundle through: the precision beside fp32, on the same pairs."""

    fp32: Measures
    quantized: Measures
    kendall_tau: float = Field(description="Mean over queries of tau-b between both orders.")
    p99_score_difference: float = Field(description="Of the absolute difference of logits.")
    forced: bool = Field(default=False, description="True when written against the gate.")
    least_ratio: float | None = Field(
        default=None, description="What the gate asked of NDCG@10, relative to fp32."
    )
    tried: tuple[str, ...] = Field(
        default=(), description="Each recipe that was tried, in order, and what came of it."
    )


class Fusion(ManifestPart):
    """How the logit and the index's retrieval score become one evidence, in log-odds.

    `logit_scale * heard + retrieval_weight * retrieval_score + bias`, learnt on development sets
    for the scores of one embedding model, and of no use for any other's. `heard` is the logit; of
    a document of more than `full_chars` characters it is
    `center + (logit - center) * full_chars / characters`: a model knows less of longer texts than
    it was trained on.
    """

    logit_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    retrieval_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    bias: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    full_chars: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Unset: all documents are heard alike."
    )
    center: Annotated[float, Field(allow_inf_nan=False)] = Field(
        default=0.0, description="The logit that says nothing."
    )
    embedder: Digest = Field(
        description="Digest of the embedding model's weights: `embedder.source.digest` of an "
        "index bundle's manifest. With any other, the logit stands alone."
    )
    learnt_on: tuple[str, ...] = Field(
        default=(), description="The collections; what was learnt can't be judged by them."
    )


class Cut(ManifestPart):
    """Which candidates go on: the best `most`, as far as no score is `margin` under the best.

    Of each query `least` go on in any case, so that where the best stand out few are scored.
    """

    least: Annotated[int, Field(ge=1)]
    most: Annotated[int, Field(ge=1)]
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Kept(ManifestPart):
    """How much a cascade keeps of what the model does alone, where nothing gained counts.

    Intervals are of a bootstrap over the queries, which sees nothing of what no query lost: where
    none of n queries lost anything they say 1, and up to about 3 / n of other queries may lose.
    """

    judged: Annotated[float, Field(ge=0, le=1)] = Field(
        description="Of NDCG@10: the lower end of a one-sided 95 % interval of a bootstrap."
    )
    own: Annotated[float, Field(ge=0, le=1)] = Field(
        description="Of the model's own first ten, weighted as NDCG@10 weighs places: the lower "
        "end of such an interval."
    )
    held_out: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="Of NDCG@10 on queries that cuts were not chosen on, by cross-validation; of "
        "the folds whose choice cuts anything. Unset where none does.",
    )
    folds: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Of that cross-validation. Unset in earlier versions."
    )
    folds_cut: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="In how many of the folds the choice cuts anything; in the others nothing "
        "that is cheaper than the model alone keeps enough.",
    )


class Cascade(ManifestPart):
    """Which candidates the model needs not score, chosen on a development set.

    First `retriever` cuts by the retrieval scores of one embedding model, then `small` by the
    logits of a smaller model. What was cut follows what was scored, in retrieval order.
    """

    retriever: Cut | None = None
    embedder: Digest | None = Field(
        default=None,
        description="`embedder.source.digest` of the index bundle whose scores `retriever` is for.",
    )
    small: Cut | None = None
    small_bundle: Digest | None = Field(
        default=None, description="Digest of the smaller model's bundle."
    )
    alone: Measures = Field(description="The model alone, on the development set.")
    cascaded: Measures = Field(description="With the cascade, on the same set.")
    kept: Kept | None = Field(
        default=None, description="Unset in bundles of earlier versions, whose choice was bolder."
    )
    small_share: Annotated[float, Field(ge=0, le=1)] = Field(
        description="Of the candidates: what the smaller model scored."
    )
    model_share: Annotated[float, Field(ge=0, le=1)] = Field(
        description="Of the candidates: what the model scored."
    )
    cost: Annotated[float, Field(gt=0)] = Field(
        description="CPU time of both models' scoring, relative to the model alone; measured."
    )


class BatchStep(ManifestPart):
    """How large a batch is of sequences that are too long for the step before it."""

    tokens: Annotated[int, Field(ge=1)] = Field(
        description="Tokens of the longest sequence; the last step is for longer ones, too."
    )
    rows: Annotated[int, Field(ge=1)] = Field(description="Sequences of a batch, at most.")
    batch_tokens: Annotated[int, Field(ge=1)] = Field(
        description="Tokens of a batch, at most; one sequence always fits."
    )


class Batches(ManifestPart):
    """The fastest batches on one device, as measured. They change no score."""

    device: str = Field(description="The worker's setting `device`: `cpu`, `openvino`, `cuda`.")
    steps: Annotated[tuple[BatchStep, ...], Field(min_length=1)] = Field(
        description="Shortest sequences first."
    )
    machine: str = Field(description="What it was measured on, for people.")

    @model_validator(mode="after")
    def _steps_rise(self) -> Self:
        ends = [step.tokens for step in self.steps]
        if ends != sorted(set(ends)):
            raise ValueError("each step must be for longer sequences than the one before it")
        return self


class ModelManifest(ManifestPart):
    """`manifest.json` of a model bundle."""

    kind: Literal["model"] = "model"
    schema_version: Literal[1] = 1
    name: str
    family: str = Field(description="Architecture family, for instance `bert`.")
    precision: Precision
    recipe: str = Field(description="How the graph was made, for instance `static-smoothquant`.")
    inputs: tuple[str, ...] = Field(
        description="Names of the graph's inputs, a subset of input_ids, attention_mask, "
        "token_type_ids; each int64 [batch, tokens]. Without attention_mask all rows of a batch "
        "must have the same length."
    )
    output: str = Field(description="Name of the output, float32 [batch]: the raw logit.")
    pair: PairTemplate
    pad_token_id: int
    disabled_optimizers: tuple[str, ...] = Field(
        default=(), description="ONNX Runtime graph optimizers to leave out for this graph."
    )
    base: Source
    adapter: Source | None = None
    tools: dict[str, str] = Field(description="Versions of the tools that made the bundle.")
    verification: Verification | None = None
    fusion: Fusion | None = Field(
        default=None, description="Absent: lists are sorted by the logit alone."
    )
    cascade: Cascade | None = Field(
        default=None, description="Used where the worker's setting cascade.on says so."
    )
    batches: tuple[Batches, ...] | None = Field(
        default=None,
        description="One for each device that was measured; on others the engine's own sizes hold.",
    )
    files: dict[FileName, BundledFile]


class EmbedderSpec(ManifestPart):
    """The embedding model of an index bundle."""

    name: str
    source: Source
    inputs: tuple[str, ...]
    output: str = Field(description="Name of the output, float32 [batch, tokens, dimension].")
    pooling: Literal["mean", "cls"]
    normalize: bool
    dimension: int
    max_tokens: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    pad_token_id: int
    query_prompt: str = ""
    document_prompt: str = ""


class IndexSegment(ManifestPart):
    """A part of an index: documents, and a FAISS index of them, in a folder of their own."""

    folder: FileName
    documents: Annotated[int, Field(ge=0, description="How many lie in it, deleted ones too.")]
    deleted: Annotated[int, Field(ge=0)] = 0
    index_type: str = Field(description="`flat`, `hnsw` or `ivfpq`.")
    search: dict[str, int] = Field(default_factory=dict, description="Search-time parameters.")


class IndexManifest(ManifestPart):
    """`manifest.json` of an index bundle."""

    kind: Literal["index"] = "index"
    schema_version: Literal[1] = 1
    name: str
    documents: Annotated[int, Field(ge=0)]
    index_type: str = Field(
        description="`flat`, `hnsw` or `ivfpq`; of several segments all types, joined by `+`."
    )
    search: dict[str, int] = Field(
        default_factory=dict, description="Search-time parameters, for instance `efSearch`."
    )
    segments: tuple[IndexSegment, ...] = Field(
        default=(),
        description="Parts that are searched together, in the order of the corpus. Without any, "
        "the bundle is one part, whose files lie at its top.",
    )
    embedder: EmbedderSpec
    tools: dict[str, str]
    files: dict[FileName, BundledFile]


def canonical_json(value: Any) -> bytes:
    """Return UTF-8 JSON with sorted keys and no insignificant white space."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest_of(manifest_json: Any) -> str:
    """Return the bundle's digest: `sha256:` of the manifest's canonical JSON.

    Takes the parsed JSON as it stands in the file, not the model, so that fields which this
    version does not know are part of the digest.
    """
    return "sha256:" + hashlib.sha256(canonical_json(manifest_json)).hexdigest()
