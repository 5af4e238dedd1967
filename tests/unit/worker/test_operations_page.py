"""`docs/operations.md` and `docs/security.md` speak of what there is."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from schemas.events import ModelRef
from worker.metrics import Metrics
from worker.replay_options import _parser
from worker.settings import Settings

DOCS = Path(__file__).resolve().parents[3] / "docs"
OPERATIONS = (DOCS / "operations.md").read_text(encoding="utf-8")
SECURITY = (DOCS / "security.md").read_text(encoding="utf-8")
PAGES = {"operations": OPERATIONS, "security": SECURITY}
SUFFIXES = ("_bucket", "_sum", "_count", "_created")


def metric_names() -> set[str]:
    """The names as a scrape shows them."""
    registry = Metrics(ModelRef(name="m", digest="sha256:00", precision="int8"), None).registry
    suffix = {"counter": "_total", "info": "_info"}
    return {metric.name + suffix.get(metric.type, "") for metric in registry.collect()}


def setting_names(model: type[BaseModel] = Settings, prefix: str = "") -> set[str]:
    names: set[str] = set()
    for name, field in model.model_fields.items():
        kind = field.annotation
        names.add(prefix + name)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names |= setting_names(kind, f"{prefix}{name}.")
    return names


def test_every_metric_is_explained_and_no_other() -> None:
    explained = set(re.findall(r"^\| `(kafka_reranker_\w+)` \|", OPERATIONS, re.MULTILINE))
    assert explained == metric_names()


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_metrics_that_are_spoken_of_exist(page: str) -> None:
    spoken = set(re.findall(r"kafka_reranker_\w+", page))
    known = metric_names()
    assert {name for name in spoken if name not in known} == set()


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_settings_that_are_spoken_of_exist(page: str) -> None:
    sections = "|".join(name for name in Settings.model_fields if f"{name}." in page)
    spoken = set(re.findall(rf"`((?:{sections})\.[a-z_.]+)`", page))
    assert spoken
    assert spoken - setting_names() == set()


def test_flags_of_replay_that_are_spoken_of_exist() -> None:
    commands = "\n".join(
        line for line in OPERATIONS.splitlines() if line.startswith("python -m worker replay")
    )
    flags = set(re.findall(r"--[a-z][a-z-]+", commands))
    assert flags
    assert flags <= set(_parser()._option_string_actions)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", page):
        assert (DOCS / link).exists(), link
