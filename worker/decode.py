"""A record's bytes to a query, or the reason why it can never be one (`docs/events.md`)."""

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from schemas.events import Candidate, QueryEvent
from worker.errors import BadRecordError
from worker.records import Record
from worker.settings import LimitSettings


@dataclass(frozen=True)
class Query:
    """An accepted query event and the record that it came in."""

    record: Record
    event: QueryEvent


def decode(record: Record, limits: LimitSettings) -> Query:
    """Return the record's query; raises BadRecordError."""
    if record.value is None:
        raise BadRecordError("the record has no value (a tombstone asks nothing)")
    if len(record.value) > limits.event_bytes:
        raise BadRecordError(
            f"the value has {len(record.value)} bytes, more than limits.event_bytes "
            f"({limits.event_bytes})"
        )
    try:
        event = QueryEvent.model_validate_json(record.value)
    except ValidationError as error:
        raise BadRecordError(
            _reason(error.errors(include_url=False, include_input=False))
        ) from None
    return Query(record, _normalised(event, limits))


def _normalised(event: QueryEvent, limits: LimitSettings) -> QueryEvent:
    if event.candidates is None:
        return event
    candidates = tuple(_first_of_each_id(event.candidates))
    for candidate in candidates:
        if len(candidate.text) > limits.text_chars:
            raise BadRecordError(
                f"a candidate's text has {len(candidate.text)} characters, more than "
                f"limits.text_chars ({limits.text_chars})"
            )
    return event.model_copy(update={"candidates": candidates})


def _first_of_each_id(candidates: Iterable[Candidate]) -> Iterable[Candidate]:
    seen: set[str] = set()
    for candidate in candidates:
        if candidate.doc_id not in seen:
            seen.add(candidate.doc_id)
            yield candidate


def _reason(errors: list[ErrorDetails]) -> str:
    """Name the first mistake by its place, without the value: it may be private."""
    first = errors[0]
    # Keys of `attributes` are content too.
    place = first["loc"][:1] if first["loc"][:1] == ("attributes",) else first["loc"]
    where = ".".join(str(part) for part in place)
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{where}: {first['msg']}{more}" if where else f"{first['msg']}{more}"
