"""The AsyncAPI 3.0 document: four topics, who writes and reads them, and what a record holds.

Made from the models and the example files. https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from schemas import cloudevents
from schemas.events import (
    Click,
    DeadLetterHeaders,
    Impression,
    Judgement,
    QueryEvent,
    RankedList,
)
from schemas.published import MAJOR, Generator

EXAMPLES = Path(__file__).parent / "examples"
_BINDING = "0.5.0"
_TRACEPARENT = "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"


@dataclass(frozen=True)
class _Message:
    """A kind of record; `ours` when the worker writes it, and with it every header."""

    name: str
    model: type[BaseModel]
    ce_type: str
    topic: str
    ours: bool

    @property
    def mode(self) -> JsonSchemaMode:
        return "serialization" if self.ours else "validation"


_MESSAGES = (
    _Message("query", QueryEvent, cloudevents.QUERY, "queries", ours=False),
    _Message("rankedList", RankedList, cloudevents.RANKED_LIST, "results", ours=True),
    _Message("impression", Impression, cloudevents.IMPRESSION, "feedback", ours=True),
    _Message("click", Click, cloudevents.CLICK, "feedback", ours=False),
    _Message("judgement", Judgement, cloudevents.JUDGEMENT, "feedback", ours=False),
)
_EXAMPLES = {
    "query": "query-event",
    "rankedList": "ranked-list",
    "impression": "impression",
    "click": "click",
    "judgement": "judgement",
}
_TOPICS = {
    "queries": ("rerank.queries", "Questions, with candidates or without."),
    "results": (
        "rerank.results",
        "Exactly one ranked list for each accepted query event. Written in transactions: read it "
        "with isolation level read_committed.",
    ),
    "feedback": (
        "rerank.feedback",
        "What was shown, clicked and judged. All that is known of one query is in one partition.",
    ),
    "deadLetters": (
        "rerank.dead-letters",
        "Records of `rerank.queries` that can never be answered, as they came, with the reason.",
    ),
}


def document() -> dict[str, Any]:
    """Return the whole document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "kafka-reranker",
            "version": f"{MAJOR}.0.0",
            "description": "Query events in, ranked lists and feedback out. Every key is the "
            "UTF-8 `query_id`; what applications write should be partitioned by murmur2, as Java "
            "clients, kafka-python and the worker do. See docs/events.md.",
            "license": {
                "name": "Apache-2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0",
            },
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": {"host": "localhost:9092", "protocol": "kafka"}},
        "channels": {name: _channel(name) for name in _TOPICS},
        "operations": _operations(),
        "components": {
            "messages": {
                **{each.name: _message(each) for each in _MESSAGES},
                "deadLetter": _dead_letter(),
            },
            "schemas": _schemas(),
        },
    }


def _channel(name: str) -> dict[str, Any]:
    topic, description = _TOPICS[name]
    messages = [each.name for each in _MESSAGES if each.topic == name] or ["deadLetter"]
    return {
        "address": topic,
        "description": description,
        "messages": {each: {"$ref": f"#/components/messages/{each}"} for each in messages},
        "bindings": {"kafka": {"topic": topic, "bindingVersion": _BINDING}},
    }


def _operations() -> dict[str, Any]:
    ask = _operation("application", "send", "queries", ["query"], "Ask a question.")
    answer = _operation("worker", "receive", "queries", ["query"], "Take questions and answer.")
    for each in (ask, answer):
        each["reply"] = _reply()
    operations = {
        "applicationAsk": ask,
        "applicationReadResults": _operation(
            "application", "receive", "results", ["rankedList"], "Read the answers."
        ),
        "applicationReportClick": _operation(
            "application", "send", "feedback", ["click"], "Say which document was chosen."
        ),
        "workerAnswer": answer,
        "workerPublishResult": _operation(
            "worker", "send", "results", ["rankedList"], "Answer, in the input's transaction."
        ),
        "workerPublishImpression": _operation(
            "worker", "send", "feedback", ["impression"], "Say what was shown."
        ),
        "workerPublishDeadLetter": _operation(
            "worker", "send", "deadLetters", ["deadLetter"], "Hand back what can't be answered."
        ),
        "annotatorJudge": _operation(
            "annotator", "send", "feedback", ["judgement"], "Grade a document for a question."
        ),
        "trainingReadFeedback": _operation(
            "training",
            "receive",
            "feedback",
            ["impression", "click", "judgement"],
            "Join feedback into labelled data.",
        ),
    }
    operations["workerAnswer"]["bindings"] = {
        "kafka": {
            "groupId": {"type": "string", "default": "kafka-reranker"},
            "bindingVersion": _BINDING,
        }
    }
    return operations


def _operation(
    party: str, action: str, channel: str, messages: Sequence[str], summary: str
) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "tags": [{"name": party}],
        "messages": [_in_channel(channel, each) for each in messages],
    }


def _reply() -> dict[str, Any]:
    return {
        "channel": {"$ref": "#/channels/results"},
        "messages": [_in_channel("results", "rankedList")],
    }


def _in_channel(channel: str, message: str) -> dict[str, str]:
    return {"$ref": f"#/channels/{channel}/messages/{message}"}


def _message(message: _Message) -> dict[str, Any]:
    return {
        "name": message.ce_type,
        "title": message.model.__name__,
        "summary": (message.model.__doc__ or "").split("\n", maxsplit=1)[0],
        "contentType": "application/json",
        "headers": _event_headers(message),
        "payload": {"$ref": f"#/components/schemas/{message.model.__name__}"},
        "correlationId": {
            "description": "Joins a question, its answer and its feedback.",
            "location": "$message.payload#/query_id",
        },
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": "The `query_id`, as UTF-8."},
                "bindingVersion": _BINDING,
            }
        },
        "examples": _examples(_EXAMPLES[message.name]),
    }


def _event_headers(message: _Message) -> dict[str, Any]:
    """CloudEvents in binary mode. Applications should send them too; the worker asks for none."""
    properties = {
        "ce_specversion": {"type": "string", "const": cloudevents.SPEC_VERSION},
        "ce_id": {"type": "string", "minLength": 1},
        "ce_type": {"type": "string", "const": message.ce_type},
        "ce_source": {"type": "string", "format": "uri-reference"},
        "ce_time": {"type": "string", "format": "date-time"},
        "content-type": {"type": "string", "const": "application/json"},
    }
    required = {"required": list(properties)} if message.ours else {}
    return {"type": "object", "properties": {**properties, **_trace_headers()}, **required}


def _trace_headers() -> dict[str, Any]:
    return {
        "traceparent": {
            "type": "string",
            "pattern": _TRACEPARENT,
            "description": "W3C trace context: the query's, handed on as it came.",
        },
        "tracestate": {"type": "string"},
    }


def _dead_letter() -> dict[str, Any]:
    return {
        "name": "dead-letter",
        "title": "DeadLetter",
        "summary": "A record as it came: key, value and headers untouched, `dlq.*` headers added.",
        "contentType": "application/octet-stream",
        "headers": {"$ref": f"#/components/schemas/{DeadLetterHeaders.__name__}"},
        "payload": {"description": "The original bytes; there may be none."},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": "The original bytes; may be none."},
                "bindingVersion": _BINDING,
            }
        },
    }


def _schemas() -> dict[str, Any]:
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((each.model, each.mode) for each in _MESSAGES),
        (DeadLetterHeaders, "serialization"),
    ]
    _, definitions = models_json_schema(
        models, ref_template="#/components/schemas/{model}", schema_generator=Generator
    )
    schemas: dict[str, Any] = definitions["$defs"]
    return dict(sorted(schemas.items()))


def _examples(name: str) -> list[dict[str, Any]]:
    return [
        {"name": path.name.split(".")[1], "payload": json.loads(path.read_text(encoding="utf-8"))}
        for path in sorted(EXAMPLES.glob(f"{name}.*.json"))
    ]
