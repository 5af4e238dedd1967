"""The plan: one YAML file with a section for each step, checked as a whole before anything runs."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from training.errors import PlanError
from training.plan_data import AnnotatePlan, CollectPlan, LabelPlan
from training.plan_example import model_of
from training.plan_model import GatePlan, PromotePlan, TrainPlan


class Plan(BaseModel):
    """The whole way from events to a better model. A section that is left out has its defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    collect: CollectPlan = CollectPlan()
    annotate: AnnotatePlan = AnnotatePlan()
    label: LabelPlan = LabelPlan()
    train: TrainPlan = TrainPlan()
    gate: GatePlan = GatePlan()
    promote: PromotePlan = PromotePlan()


def load_plan(path: Path) -> Plan:
    """Read and check a plan. Raises PlanError with one line per mistake."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(
            f"cannot read the plan {path}: {error.strerror}; `python -m training init` writes one"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlanError(" ".join(f"{path} is not valid YAML: {error}".split())) from None
    try:
        return Plan.model_validate({} if raw is None else raw)
    except ValidationError as error:
        lines = [f"  {_explain(one)}" for one in error.errors(include_url=False)]
        raise PlanError("\n".join([f"the plan {path} has mistakes:", *lines])) from None


def _explain(error: ErrorDetails) -> str:
    """Return the place in the file, what is wrong there, and what is allowed."""
    where = ".".join(map(str, error["loc"])) or "top level"
    if error["type"] == "extra_forbidden":
        return f"{where}: {_unknown(error['loc'])}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] in ("missing", "value_error") or isinstance(error["input"], dict | list):
        return f"{where}: {message}"
    return f"{where}: {message}, not {error['input']!r}"


def _unknown(place: tuple[int | str, ...]) -> str:
    allowed = _fields_at(place[:-1])
    near = get_close_matches(str(place[-1]), allowed, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"no such setting{hint} Allowed here: {', '.join(allowed)}"


def _fields_at(place: tuple[int | str, ...]) -> list[str]:
    """Return the names of the settings of the section at `place`."""
    model: Any = Plan
    for part in place:
        if isinstance(part, str) and part in model.model_fields:
            model = model_of(model.model_fields[part].annotation) or model
    return list(model.model_fields)
