"""What is published of the contract: which models, in which direction, as which JSON Schema.

`consumed`: written by others and read by us, so what was valid stays valid (pydantic's validation
mode). `produced`: written by us, so what was promised stays there (serialization mode).
`schemas.compatibility` holds changes to that.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from schemas.compatibility import Direction
from schemas.events import (
    HEADERS_OMITTED,
    KEY_OMITTED,
    REPLAYS,
    VALUE_OMITTED,
    Click,
    DeadLetterHeaders,
    FeedbackEvent,
    Impression,
    Judgement,
    QueryEvent,
    RankedList,
)
from schemas.manifests import IndexManifest, ModelManifest

MAJOR = 1
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_COMMENT = "Fields that are not described here are allowed, and ignored by readers."

# What the model's own validator asks for, which pydantic cannot say by itself.
_NAMES_BOTH_SIDES = [
    {
        "anyOf": [
            {"required": [name], "properties": {name: {"type": "string"}}}
            for name in ("query_id", "query")
        ]
    },
    {
        "anyOf": [
            {"required": [name], "properties": {name: {"type": "string"}}}
            for name in ("doc_id", "text")
        ]
    },
]

# Headers that are not on every dead letter.
_ONLY_SOMETIMES = {
    VALUE_OMITTED: {
        "description": "How many bytes the value had, where it was too large for this topic.",
        "type": "string",
        "pattern": "^[0-9]+$",
    },
    HEADERS_OMITTED: {
        "description": "How many headers the record had, where they were too large for this topic.",
        "type": "string",
        "pattern": "^[0-9]+$",
    },
    KEY_OMITTED: {
        "description": "How many bytes the key had, where it was too large for this topic.",
        "type": "string",
        "pattern": "^[0-9]+$",
    },
    REPLAYS: {
        "description": "How often `python -m worker replay` has sent the record again before.",
        "type": "string",
        "pattern": "^[0-9]+$",
    },
}


@dataclass(frozen=True)
class Published:
    """One document of the contract; `name` is the stem of its file and part of its `$id`."""

    name: str
    type: Any
    direction: Direction
    description: str | None = None

    @property
    def mode(self) -> JsonSchemaMode:
        """Return which side of pydantic the direction is about."""
        return "validation" if self.direction == "consumed" else "serialization"


PUBLISHED = (
    Published("query-event", QueryEvent, "consumed"),
    Published("ranked-list", RankedList, "produced"),
    Published(
        "feedback-event",
        FeedbackEvent,
        "consumed",
        "`rerank.feedback`: an impression, a click or a judgement, told apart by `kind`. "
        "Readers skip kinds that they do not know.",
    ),
    Published("impression", Impression, "produced"),
    Published("click", Click, "consumed"),
    Published("judgement", Judgement, "consumed"),
    Published("dead-letter-headers", DeadLetterHeaders, "produced"),
    # A bundle that was made once must open with every later worker.
    Published("model-manifest", ModelManifest, "consumed"),
    Published("index-manifest", IndexManifest, "consumed"),
)


class Generator(GenerateJsonSchema):
    """Pydantic's generator without what repeats the field's name, and exact about presence."""

    schema_dialect = DIALECT

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - the base's interface
        """Leave out titles such as `Query Id` for `query_id`."""
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:
        """Count a field that is always written as required, whether it has a default or not."""
        if self.mode == "serialization":
            return field.get("serialization_exclude_if") is None
        return super().field_is_required(field, total)

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Add to a model what only its validators or its way to the wire say."""
        json_schema = super().model_schema(schema)
        if schema["cls"] in (Impression, Click, Judgement):
            # It has a default for whoever builds one here, but readers tell events apart by it.
            json_schema["properties"]["kind"].pop("default", None)
            required = dict.fromkeys(["kind", *json_schema["required"]])
            json_schema["required"] = list(required)
        if schema["cls"] is Judgement:
            json_schema["allOf"] = _NAMES_BOTH_SIDES
        if schema["cls"] is DeadLetterHeaders:
            headers = {name: _as_header(each) for name, each in json_schema["properties"].items()}
            json_schema["properties"] = headers | _ONLY_SOMETIMES
        return json_schema

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        """Leave out `discriminator`, a word of OpenAPI and not of JSON Schema."""
        json_schema = super().tagged_union_schema(schema)
        json_schema.pop("discriminator", None)
        return json_schema


def json_schema(published: Published) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of one document of the contract."""
    adapter: TypeAdapter[Any] = TypeAdapter(published.type)
    body = adapter.json_schema(mode=published.mode, schema_generator=Generator)
    if published.description is not None:
        body = {"description": published.description, **body}
    return {
        "$schema": DIALECT,
        "$id": f"urn:kafka-reranker:{published.name}:{MAJOR}",
        "$comment": _COMMENT,
        **body,
    }


def _as_header(value: dict[str, Any]) -> dict[str, Any]:
    """Header values are text; whole numbers go out as decimal digits."""
    if value.get("type") == "integer":
        return {**value, "type": "string", "pattern": "^-?[0-9]+$"}
    return value
