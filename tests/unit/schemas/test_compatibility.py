"""Each kind of change that breaks somebody is found, and what breaks nobody is let through."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from schemas.compatibility import Direction, breaking_changes
from schemas.published import PUBLISHED, Published, json_schema

Schema = dict[str, Any]
Change = Callable[[Schema], object]

OLD: Schema = {
    "type": "object",
    "description": "An event.",
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "x"},
        "count": {"type": "integer", "minimum": 1, "maximum": 200, "default": 100},
        "ratio": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "tier": {"enum": ["full", "reduced"], "type": "string"},
        "kind": {"const": "a", "type": "string"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "items": {"type": "array", "maxItems": 5, "items": {"$ref": "#/$defs/Item"}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "files": {"type": "object", "patternProperties": {"^a": {"$ref": "#/$defs/Item"}}},
        "event": {"oneOf": [{"$ref": "#/$defs/Item"}, {"$ref": "#/$defs/Other"}]},
    },
    "required": ["id", "tier"],
    "$defs": {
        "Item": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "next": {"$ref": "#/$defs/Item"}},
            "required": ["name"],
        },
        "Other": {
            "type": "object",
            "properties": {"kind": {"const": "other"}, "size": {"type": "integer"}},
            "required": ["kind", "size"],
        },
    },
}


def changed(change: Change) -> Schema:
    new = copy.deepcopy(OLD)
    change(new)
    return new


def field(name: str, **keywords: Any) -> Change:
    """Sets keywords of a field; None takes one away."""

    def change(schema: Schema) -> None:
        target = schema["properties"][name]
        target.update(keywords)
        for keyword, value in keywords.items():
            if value is None:
                del target[keyword]

    return change


def item(name: str, value: Any) -> Change:
    return lambda schema: schema["$defs"]["Item"]["properties"].update({name: value})


# What is narrower: breaks those who write what we read.
NARROWER: dict[str, tuple[Change, str]] = {
    "new required field": (lambda new: new["required"].append("count"), "$.count: is required now"),
    "new field that is required": (
        lambda new: (new["properties"].update(more={}), new["required"].append("more")),
        "$.more: is required now",
    ),
    "required in an item": (
        lambda new: new["$defs"]["Item"]["required"].append("next"),
        "$.items[items].next: is required now",
    ),
    "higher minimum": (field("count", minimum=2), "$.count: minimum 1"),
    "lower maximum": (field("count", maximum=100), "$.count: maximum 200"),
    "higher exclusive minimum": (field("ratio", exclusiveMinimum=0.5), "$.ratio: exclusiveMinimum"),
    "lower exclusive maximum": (field("ratio", exclusiveMaximum=0.5), "$.ratio: exclusiveMaximum"),
    "new bound": (field("ratio", minimum=0), "$.ratio: minimum None"),
    "longer minimum": (field("id", minLength=2), "$.id: minLength 1"),
    "shorter maximum": (field("id", maxLength=8), "$.id: maxLength 9"),
    "fewer items": (field("items", maxItems=4), "$.items: maxItems 5"),
    "new keyword": (field("id", format="uuid"), "$.id: format None"),
    "value taken away": (field("tier", enum=["full"]), "$.tier: value 'reduced'"),
    "value listed": (field("id", enum=["x"]), "$.id: any value"),
    "number to integer": (field("ratio", type="integer"), "$.ratio: type number"),
    "no longer null": (field("note", anyOf=[{"type": "string"}]), "$.note: type null"),
    "any to a type": (item("name", {"type": "string", "minLength": 1}), "name: minLength None"),
    "closed": (field("labels", additionalProperties=False), "$.labels[additionalProperties]"),
    "closed event": (
        lambda new: new.update(additionalProperties=False),
        "$[additionalProperties]: is closed",
    ),
    "typed entries": (
        field("labels", additionalProperties={"type": "string", "maxLength": 3}),
        "$.labels[additionalProperties]: maxLength",
    ),
    "member of a union gone": (
        field("event", oneOf=[{"$ref": "#/$defs/Item"}]),
        "$.event.name: is required now",
    ),
}

# What is wider: breaks those who read what we write.
WIDER: dict[str, tuple[Change, str]] = {
    "required no more": (lambda new: new["required"].remove("id"), "$.id: is not always there"),
    "not required in an item": (
        lambda new: new["$defs"]["Item"]["required"].remove("name"),
        "$.items[items].name: is not always there",
    ),
    "lower minimum": (field("count", minimum=0), "$.count: minimum 0"),
    "no minimum": (field("count", minimum=None), "$.count: minimum None"),
    "higher maximum": (field("count", maximum=201), "$.count: maximum 201"),
    "shorter minimum": (field("id", minLength=0), "$.id: minLength 0"),
    "no pattern": (field("id", pattern=None), "$.id: pattern None"),
    "another value": (field("tier", enum=["full", "reduced", "none"]), "$.tier: value 'none'"),
    "any value": (field("tier", enum=None), "$.tier: any value"),
    "integer to number": (field("count", type="number"), "$.count: type number"),
    "may be null": (
        lambda new: new["properties"].update(
            kind={"anyOf": [OLD["properties"]["kind"], {"type": "null"}]}
        ),
        "$.kind: type null",
    ),
    "other entries": (
        field("labels", additionalProperties=True),
        "$.labels[additionalProperties]: type any",
    ),
    "another member of a union": (
        lambda new: (
            new["$defs"].update(Third={"type": "object", "properties": {"kind": {"const": "3"}}}),
            new["properties"]["event"]["oneOf"].append({"$ref": "#/$defs/Third"}),
        ),
        "$.event.",
    ),
}

# What breaks either side.
BOTH: dict[str, tuple[Change, str]] = {
    "field removed": (lambda new: new["properties"].pop("count"), "$.count: was removed"),
    "field renamed": (
        lambda new: new["properties"].update(number=new["properties"].pop("count")),
        "$.count: was removed",
    ),
    "field of an item removed": (
        lambda new: new["$defs"]["Item"]["properties"].pop("next"),
        "$.items[items].next: was removed",
    ),
    "other type": (field("id", type="integer"), "$.id: type"),
    "list instead of one": (
        lambda new: new["properties"].update(id={"type": "array", "items": {"type": "string"}}),
        "$.id: type",
    ),
    "other pattern": (field("id", pattern="y"), "$.id: pattern"),
    "other constant": (field("kind", const="b"), "$.kind: value"),
    "other type in an item": (item("name", {"type": "integer"}), "$.items[items].name: type"),
    "other type in a file": (item("name", {"type": "integer"}), "$.files[^a].name: type"),
    "other names": (field("files", patternProperties={"^b": {}}), "$.files: names of fields"),
}

HARMLESS: dict[str, Change] = {
    "nothing": lambda new: None,
    "new optional field": lambda new: new["properties"].update(more={"type": "string"}),
    "new optional field of an item": item("more", {"type": "string"}),
    "new words": lambda new: new.update(description="Other words.", title="New"),
    "other name of a part": lambda new: (
        new["$defs"].update(Thing=new["$defs"]["Item"]),
        new["properties"]["items"].update(items={"$ref": "#/$defs/Thing"}),
    ),
}


def cases(*groups: dict[str, tuple[Change, str]]) -> list[Any]:
    return [pytest.param(*case, id=name) for group in groups for name, case in group.items()]


@pytest.mark.parametrize(("change", "said"), cases(NARROWER, BOTH))
def test_what_others_write_stays_valid(change: Change, said: str) -> None:
    found = breaking_changes(OLD, changed(change), "consumed")
    assert any(line.startswith(said) or said in line for line in found), found


@pytest.mark.parametrize(("change", "said"), cases(WIDER, BOTH))
def test_what_others_read_stays_as_promised(change: Change, said: str) -> None:
    found = breaking_changes(OLD, changed(change), "produced")
    assert any(line.startswith(said) or said in line for line in found), found


def test_a_default_is_a_promise_to_those_who_leave_the_field_out() -> None:
    new = changed(field("count", default=50))
    assert breaking_changes(OLD, new, "consumed") == ["$.count: has another default"]
    assert breaking_changes(OLD, new, "produced") == []


@pytest.mark.parametrize("change", [pytest.param(each[0], id=n) for n, each in WIDER.items()])
def test_wider_is_fine_for_what_others_write(change: Change) -> None:
    assert breaking_changes(OLD, changed(change), "consumed") == []


@pytest.mark.parametrize("change", [pytest.param(each[0], id=n) for n, each in NARROWER.items()])
def test_narrower_is_fine_for_what_others_read(change: Change) -> None:
    assert breaking_changes(OLD, changed(change), "produced") == []


@pytest.mark.parametrize("direction", ["consumed", "produced"])
@pytest.mark.parametrize("name", HARMLESS)
def test_harmless(name: str, direction: Direction) -> None:
    assert breaking_changes(OLD, changed(HARMLESS[name]), direction) == []


@pytest.mark.parametrize("each", PUBLISHED, ids=lambda each: each.name)
def test_every_field_of_the_contract_is_seen(each: Published) -> None:
    """Taking any one field away, however deep, is found: no part of a schema is passed over."""
    old = json_schema(each)
    for owner in [old, *old.get("$defs", {}).values()]:
        for name in owner.get("properties", {}):
            new = copy.deepcopy(old)
            _same(old, owner, new)["properties"].pop(name)
            found = breaking_changes(old, new, each.direction)
            assert any(line.endswith(f".{name}: was removed") for line in found), name


def _same(old: Schema, owner: Schema, new: Schema) -> Schema:
    """The part of a copy that stands where `owner` stands in the original."""
    if owner is old:
        return new
    name = next(key for key, value in old["$defs"].items() if value is owner)
    part: Schema = new["$defs"][name]
    return part
