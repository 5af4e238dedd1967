"""The recipe: one YAML file, checked as a whole before anything runs."""

from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class RecipeError(Exception):
    """The recipe can't be used; the message names the file and each wrong field."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceRecipe(_Strict):
    """How much of one source."""

    queries: PositiveInt
    pool: PositiveInt = Field(
        default=10_000, description="passages to draw candidates from, at most"
    )


class DataRecipe(_Strict):
    """What `build-data` makes."""

    seed: int = 13
    sources: dict[str, SourceRecipe] = Field(
        description="what to draw from each source; a source that isn't named is left out"
    )
    candidates: PositiveInt = Field(
        default=16, description="candidates stored per query; training samples from them"
    )
    lexical_weight: float = Field(
        default=0.02, ge=0.0, description="the teacher is cosine + this * BM25"
    )


class LoraRecipe(_Strict):
    """The adapter's shape."""

    rank: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: Share = 0.0
    target_modules: list[str] = ["query", "key", "value", "dense"]
    modules_to_save: list[str] = ["classifier"]


class LossRecipe(_Strict):
    """Weights of the losses; see `training.losses`."""

    distill: float = Field(default=1.0, ge=0.0)
    distill_labelled: float = Field(
        default=0.3, ge=0.0, description="weight of the distillation where judgements are complete"
    )
    teacher_scale: float = Field(default=16.0, gt=0.0)
    listwise: float = Field(default=1.0, ge=0.0)
    calibration: float = Field(default=0.2, ge=0.0)


class TrainRecipe(_Strict):
    """The fine-tune."""

    seed: int = 13
    steps: PositiveInt
    queries_per_batch: PositiveInt = 16
    candidates_per_query: int = Field(default=8, ge=2)
    max_length: int = Field(default=96, ge=16, le=512)
    learning_rate: float = Field(default=1e-3, gt=0.0)
    warmup_steps: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=0.01, ge=0.0)
    threads: PositiveInt = Field(default=2, description="parts of a batch worked on side by side")
    bf16: bool = Field(default=True, description="autocast to bfloat16; faster on recent CPUs")
    mix: dict[str, float] = Field(
        default={}, description="share of batches per source; sources not named get their size"
    )
    losses: LossRecipe = LossRecipe()


class EvalRecipe(_Strict):
    """How the best step is chosen."""

    collections: list[str] = ["trecqa/dev", "med", "cacm"]
    halves: list[str] = Field(
        default=[],
        description="of these collections only the half of the queries that `fuse --learn-half` "
        "learns on, so that the other half is held out from both choices",
    )
    max_queries: PositiveInt = Field(
        default=40, description="queries per collection while training"
    )
    max_length: int = Field(default=192, ge=16, le=512)
    depth: PositiveInt = Field(default=100, description="candidates to rerank while training")
    every_steps: PositiveInt = 400
    patience: PositiveInt = Field(default=4, description="evaluations without gain before stopping")

    @model_validator(mode="after")
    def _halves_are_collections(self) -> Self:
        if others := sorted(set(self.halves) - set(self.collections)):
            raise ValueError(f"halves: {', '.join(others)} is none of the collections")
        return self


class Recipe(_Strict):
    """Everything that makes an adapter."""

    data: DataRecipe
    lora: LoraRecipe = LoraRecipe()
    train: TrainRecipe
    evaluate: EvalRecipe = EvalRecipe()


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe. Raises RecipeError with one line per mistake."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise RecipeError(f"cannot read the recipe {path}: {e.strerror}") from e
    except yaml.YAMLError as e:
        raise RecipeError(f"{path} is not valid YAML: {e}".replace("\n", " ")) from e
    try:
        return Recipe.model_validate(raw)
    except ValidationError as e:
        lines = [
            f"  {'.'.join(map(str, err['loc'])) or 'top level'}: {err['msg']}" for err in e.errors()
        ]
        raise RecipeError("\n".join([f"the recipe {path} has mistakes:", *lines])) from e
