"""Query events as applications write them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.events import QueryEvent
from worker.decode import Query, decode
from worker.records import Headers, Partition, Record
from worker.settings import LimitSettings

QUERIES = Partition("rerank.queries", 0)


def event_json(
    query_id: str,
    query: str = "how do I read a file",
    texts: Sequence[str] | None = None,
    **more: Any,
) -> bytes:
    """A query event; `texts` become candidates `d1`, `d2`, …"""
    event: dict[str, Any] = {"query_id": query_id, "query": query, **more}
    if texts is not None:
        event["candidates"] = [
            {"doc_id": f"d{number}", "text": text} for number, text in enumerate(texts, start=1)
        ]
    return json.dumps(event).encode()


def record_of(
    value: bytes | None,
    *,
    key: bytes | None = b"key",
    offset: int = 0,
    partition: Partition = QUERIES,
    timestamp_ms: int = 0,
    headers: Headers = (),
) -> Record:
    """A record as it is polled."""
    return Record(partition, offset, timestamp_ms, key, value, headers)


def query_of(value: bytes, **place: Any) -> Query:
    """A decoded query."""
    return decode(record_of(value, **place), LimitSettings())


def query_with(event: Mapping[str, Any], **place: Any) -> Query:
    """A query of an event's fields."""
    return Query(record_of(b"", **place), QueryEvent.model_validate_json(json.dumps(event)))
