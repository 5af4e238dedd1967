"""The committed JSON Schemas say what the models do."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError
from pydantic import TypeAdapter

from schemas import files
from schemas.published import PUBLISHED, Published, json_schema

EXAMPLES = sorted((files.FOLDER / "examples").glob("*.json"))
BY_NAME = {each.name: each for each in PUBLISHED}
FEEDBACK = ("impression", "click", "judgement")


def published(path: Path) -> Published:
    return BY_NAME[path.name.split(".")[0]]


def validator(name: str) -> Draft202012Validator:
    text = (files.JSON / f"{name}.schema.json").read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(text))


def test_the_committed_files_are_those_of_the_models() -> None:
    assert files.stale() == [], "run `python -m schemas write`"


def test_what_was_released_still_holds() -> None:
    assert files.breaks() == []


@pytest.mark.parametrize("each", PUBLISHED, ids=lambda each: each.name)
def test_each_is_a_valid_schema_with_a_name_of_its_own(each: Published) -> None:
    schema = json_schema(each)
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:kafka-reranker:{each.name}:1"


@pytest.mark.parametrize("each", PUBLISHED, ids=lambda each: each.name)
def test_each_has_a_small_and_a_full_example(each: Published) -> None:
    names = FEEDBACK if each.name == "feedback-event" else (each.name,)
    for name in names:
        assert sum(path.name.startswith(f"{name}.") for path in EXAMPLES) >= 2


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_fits_its_schema(path: Path) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    name = published(path).name
    validator(name).validate(value)
    if name in FEEDBACK:
        validator("feedback-event").validate(value)
    # A later version may add fields: today's readers must not mind.
    validator(name).validate({**value, "added later": [1]})


@pytest.mark.parametrize(
    "path",
    [path for path in EXAMPLES if not path.name.startswith("dead-letter")],
    ids=lambda path: path.stem,
)
def test_an_example_survives_reading_and_writing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    each = published(path)
    adapter: TypeAdapter[Any] = TypeAdapter(each.type)
    # What others write may leave out what has a default; what we write is always whole.
    whole = each.direction == "produced"
    again = adapter.dump_json(adapter.validate_json(text), exclude_unset=not whole)
    assert json.loads(again) == json.loads(text)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("query-event", {"query": ""}),
        ("query-event", {"query": " \t\n"}),
        ("query-event", {"query": 7}),
        ("query-event", {"query": None}),
        ("query-event", {"query": "x" * 16_385}),
        ("query-event", {"query_id": ""}),
        ("query-event", {"top_k": 0}),
        ("query-event", {"top_k": 201}),
        ("query-event", {"top_k": "5"}),
        ("query-event", {"top_k": True}),
        ("query-event", {"top_n": 1001}),
        ("query-event", {"deadline_ms": 0}),
        ("query-event", {"candidates": [{"doc_id": "d"}]}),
        ("query-event", {"candidates": [{"doc_id": "", "text": ""}]}),
        ("query-event", {"candidates": [{"doc_id": "d", "text": "", "score": "1"}]}),
        ("query-event", {"candidates": [{"doc_id": "d", "text": ""}] * 1001}),
        ("query-event", {"attributes": {"user": 9}}),
        ("query-event", {"attributes": None}),
        ("ranked-list", {"tier": "best"}),
        ("ranked-list", {"degraded": "mood"}),
        ("ranked-list", {"ranking": None}),
        ("impression", {"shown": [{"doc_id": "d"}]}),
        ("click", {"position": 0}),
        ("click", {"dwell_ms": -1}),
        ("click", {"kind": "tap"}),
        ("judgement", {"grade": 4}),
        ("judgement", {"query_id": None}),
        ("judgement", {"doc_id": None}),
        ("model-manifest", {"schema_version": 2}),
        ("model-manifest", {"files": {"model.onnx": {"sha256": "md5:0", "bytes": 1}}}),
        ("index-manifest", {"documents": -1}),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else value,
)
def test_model_and_schema_refuse_the_same(name: str, change: dict[str, Any]) -> None:
    path = next(path for path in EXAMPLES if re.match(rf"{name}\.(minimal|empty)\.", path.name))
    value = json.loads(path.read_text(encoding="utf-8"))
    adapter: TypeAdapter[Any] = TypeAdapter(BY_NAME[name].type)
    adapter.validate_json(json.dumps(value))
    with pytest.raises(ValueError, match="validation error"):
        adapter.validate_json(json.dumps({**value, **change}))
    with pytest.raises(ValidationError):
        validator(name).validate({**value, **change})


@pytest.mark.parametrize("name", [name for name in BY_NAME if name != "dead-letter-headers"])
def test_model_and_schema_miss_the_same_fields(name: str) -> None:
    example = "click" if name == "feedback-event" else name
    adapter: TypeAdapter[Any] = TypeAdapter(BY_NAME[name].type)
    for path in (path for path in EXAMPLES if path.name.startswith(f"{example}.")):
        value = json.loads(path.read_text(encoding="utf-8"))
        for field in value:
            less = {key: kept for key, kept in value.items() if key != field}
            fits = validator(name).is_valid(less)
            # What we write is promised to be whole; our own reading of it is more lenient.
            assert fits <= _reads(adapter, less), field
            if name in ("query-event", "feedback-event"):
                assert fits == _reads(adapter, less), field


def _reads(adapter: TypeAdapter[Any], value: Any) -> bool:
    try:
        adapter.validate_json(json.dumps(value))
    except ValueError:
        return False
    return True
