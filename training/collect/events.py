"""Feedback events as rows of Parquet."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ValidationError

from schemas.events import Click, Impression, Judgement, feedback_adapter

Kind = Literal["impression", "click", "judgement"]
UNDATED = "undated"
MAX_GRADE = 3
_USER_FIELDS = ("user", "user_id", "attributes")

_SHOWN = pa.struct(
    [
        ("doc_id", pa.string()),
        ("rank", pa.int32()),
        ("score", pa.float64()),
        ("retrieval_rank", pa.int32()),
        ("retrieval_score", pa.float64()),
        ("text", pa.string()),
    ]
)
# `origin` says where an event came from: topic/partition/offset or file:line. `extra` holds, as
# JSON, what later versions of the contract add. `user` is empty unless it was asked for.
_COMMON = [
    ("event_id", pa.string()),
    ("origin", pa.string()),
    ("time", pa.timestamp("ms", tz="UTC")),
    ("extra", pa.string()),
    ("user", pa.string()),
]
SCHEMAS: dict[Kind, pa.Schema] = {
    "impression": pa.schema(
        [
            *_COMMON,
            ("query_id", pa.string()),
            ("query", pa.string()),
            ("tenant", pa.string()),
            ("model_name", pa.string()),
            ("model_digest", pa.string()),
            ("tier", pa.string()),
            ("shown", pa.list_(_SHOWN)),
        ]
    ),
    "click": pa.schema(
        [
            *_COMMON,
            ("query_id", pa.string()),
            ("doc_id", pa.string()),
            ("position", pa.int32()),
            ("dwell_ms", pa.int64()),
        ]
    ),
    "judgement": pa.schema(
        [
            *_COMMON,
            ("query_id", pa.string()),
            ("query", pa.string()),
            ("tenant", pa.string()),
            ("doc_id", pa.string()),
            ("text", pa.string()),
            ("label", pa.float64()),
            ("annotator", pa.string()),
        ]
    ),
}


class BadEventError(Exception):
    """An event or a line that can't be used; the message says why."""


class UnknownKindError(Exception):
    """A kind of feedback that this version does not know: readers skip it."""


@dataclass(frozen=True, slots=True)
class Row:
    """An event: what it is, its day (UTC), and its columns. `bytes_read` is what it came as."""

    kind: Kind
    day: str
    columns: dict[str, Any]
    bytes_read: int

    @property
    def event_id(self) -> str:
        """What tells two events apart."""
        return str(self.columns["event_id"])


def decode(
    value: bytes | None, event_id: str | None, origin: str, time_ms: int, *, keep_user: bool
) -> Row:
    """Return a record of the topic as a row; raises BadEventError, UnknownKindError.

    A record without an id has that of its place: then only its own copies can't be told apart.
    """
    if value is None:
        raise BadEventError("the record has no value")
    try:
        event = feedback_adapter.validate_json(value)
    except ValidationError as error:
        raise _sorted(error) from None
    time = datetime.fromtimestamp(max(time_ms, 0) / 1000, UTC)
    columns = {
        "event_id": event_id or origin,
        "origin": origin,
        "time": time,
        "user": _user(value) if keep_user else None,
        **_columns(event),
    }
    return Row(event.kind, f"{time:%Y-%m-%d}", columns, len(value))


def _sorted(error: ValidationError) -> Exception:
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "union_tag_invalid":
        return UnknownKindError(first["msg"])
    where = ".".join(map(str, first["loc"]))
    return BadEventError(f"{where}: {first['msg']}" if where else first["msg"])


def _columns(event: Impression | Click | Judgement) -> dict[str, Any]:
    plain = event.model_dump()
    plain.pop("kind")
    if isinstance(event, Impression):
        model = plain.pop("model")
        plain |= {"model_name": model["name"], "model_digest": model["digest"]}
        names = {field.name for field in _SHOWN}
        plain["shown"] = [
            {name: shown.get(name) for name in names} for shown in map(dict, plain["shown"])
        ]
    if isinstance(event, Judgement):
        plain["label"] = plain.pop("grade") / MAX_GRADE
    known = set(SCHEMAS[event.kind].names)
    extra = {name: value for name, value in plain.items() if name not in known}
    kept = {name: value for name, value in plain.items() if name in known}
    return kept | {"extra": _json(extra) if extra else None}


def _user(value: bytes) -> str | None:
    fields = json.loads(value)
    found = {name: fields[name] for name in _USER_FIELDS if name in fields}
    return _json(found) if found else None


def judgement_id(columns: dict[str, Any]) -> str:
    """Return the id of a judgement that came without: that of what it says."""
    says = [columns.get(name) for name in ("query_id", "query", "tenant", "doc_id", "text")]
    text = _json([*says, columns["label"], columns["annotator"]])
    return "judgement/" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _json(value: object) -> str:
    def plain(one: object) -> object:
        return one.model_dump(mode="json") if isinstance(one, BaseModel) else str(one)

    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=plain)
