"""The plan's sections for the model: how it is trained, what it must pass, where it goes."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from schemas.manifests import Precision

DEFAULT_MODEL = "default"

Loss = Literal["pointwise", "pairwise", "margin", "listwise", "distill-mse", "distill-margin"]
DISTILLATIONS = ("distill-mse", "distill-margin")
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class _Section(BaseModel):
    """A misspelt field is a mistake, not a wish that is silently left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LoraPlan(_Section):
    """The adapter's shape."""

    rank: PositiveInt = 8
    alpha: PositiveInt = Field(default=16, description="Twice the rank is a usual choice.")
    dropout: Share = 0.0
    target_modules: list[str] | None = Field(
        default=None, description="Names of linear layers; unsaid, those of the model's family."
    )


class TrainPlan(_Section):
    """`train`: a fine-tune of a cross-encoder on `labels/groups.parquet`."""

    seed: int = 13
    base: str = Field(
        default=DEFAULT_MODEL,
        description="Folder or Hugging Face id of a cross-encoder or a Qwen3-Reranker, or "
        "`default` for the reranker that comes with this package.",
    )
    adapter: Path | None = Field(
        default=None, description="A LoRA adapter that is merged into `base` before training."
    )
    instruction: str | None = Field(
        default=None,
        min_length=1,
        description="What a decoder (Qwen3-Reranker) judges by, as base and as teacher; unsaid, "
        "what it was trained with, or that of its model card.",
    )
    keep_layers: list[int] | None = Field(
        default=None,
        description="Of the base, counted from 0: a smaller student, such as [0, 2, 5] of six.",
    )
    method: Literal["lora", "full"] = "lora"
    lora: LoraPlan = LoraPlan()
    loss: Loss = Field(
        default="listwise",
        description="listwise (LambdaLoss) for graded lists, pairwise (RankNet) or margin for "
        "preferences, pointwise (BCE) for single judgements, distill-* for a teacher's scores.",
    )
    teacher: str | None = Field(
        default=None, description="Folder, id or `default`: whose scores a distill-* loss learns."
    )
    documents_per_query: int = Field(default=8, ge=2, description="Drawn anew in each epoch.")
    queries_per_batch: PositiveInt = 8
    max_tokens: int = Field(
        default=128,
        ge=16,
        description="Of a pair, in training and serving; with a decoder's chat template in it.",
    )
    epochs: PositiveInt = 4
    max_steps: PositiveInt | None = Field(default=None, description="Ends training earlier.")
    learning_rate: float = Field(default=5e-4, gt=0.0, description="A tenth of it for `full`.")
    warmup_share: Share = 0.1
    weight_decay: float = Field(default=0.01, ge=0.0)
    evaluate_every: PositiveInt = Field(
        default=50, description="Steps between looks at the dev split, each with a checkpoint."
    )
    patience: PositiveInt = Field(default=4, description="Looks without gain before the end.")
    dev_documents: PositiveInt = Field(default=50, description="Ranked per query at each look.")
    fuse: bool = Field(
        default=True,
        description="Learn on dev how much the retrieval score counts beside the logit; only "
        "where label.index_bundle is set and its scores are in the labels.",
    )
    bf16: bool = Field(default=False, description="Autocast to bfloat16; on recent CPUs and GPUs.")

    @model_validator(mode="after")
    def _teacher_fits(self) -> Self:
        if (self.loss in DISTILLATIONS) != (self.teacher is not None):
            raise ValueError("a distill-* loss needs a teacher, and only those take one")
        return self


class SlicePlan(_Section):
    """No part of the traffic may pay for the rest."""

    min_queries: PositiveInt = Field(default=10, description="Smaller slices are not judged.")
    max_drop: Share = Field(default=0.05, description="How far a slice's mean may fall.")


class GatePlan(_Section):
    """`gate`: the new model against the current one, on queries that neither was trained on."""

    seed: int = 13
    held_out: Path | None = Field(
        default=None, description="A BEIR folder; unsaid, the split `test` of the labels."
    )
    index_bundle: Path | None = Field(
        default=None, description="Index of that folder's corpus; unsaid, one is built."
    )
    current: Path | None = Field(
        default=None,
        description="Bundle of the model to beat; unsaid, the one that serves according to the "
        "registry, or the default reranker where the registry is empty.",
    )
    precision: Precision = "int8"
    top_k: PositiveInt = 100
    measure: Literal["NDCG@10", "MRR@10", "MAP"] = Field(
        default="NDCG@10", description="The one that must rise; none of the others may fall."
    )
    min_gain: float = Field(default=0.0, ge=0.0, description="How much it must rise at least.")
    max_p: float = Field(
        default=0.05, gt=0.0, le=1.0, description="One-sided, of the paired randomisation test."
    )
    max_other_drop: Share = Field(
        default=0.02, description="How far the mean of another measure may fall."
    )
    resamples: PositiveInt = 9_999
    slices: SlicePlan = SlicePlan()
    min_speed: float = Field(
        default=0.9, ge=0.0, description="Pairs a second, as a share of the current model's."
    )
    speed_pairs: PositiveInt = Field(default=256, description="Pairs that are timed.")


class PromotePlan(_Section):
    """`promote`: the bundle that passed becomes the one that serves."""

    registry: Path = Field(
        default=Path("models"),
        description="Folder of models.jsonl and of bundles/, each named by its digest's hex.",
    )
    kustomize: Path | None = Field(
        default=None, description="File of values whose MODEL_DIGEST is set, such as values.env."
    )
    name: str | None = Field(default=None, description="The model's name in results.")
