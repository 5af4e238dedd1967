"""Headers of CloudEvents 1.0 in binary mode for Kafka, and W3C trace context.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
https://www.w3.org/TR/trace-context/
"""

from datetime import UTC, datetime

SPEC_VERSION = "1.0"
TRACE_HEADERS = ("traceparent", "tracestate")

QUERY = "kafka-reranker.query.v1"
RANKED_LIST = "kafka-reranker.ranked-list.v1"
IMPRESSION = "kafka-reranker.impression.v1"
CLICK = "kafka-reranker.click.v1"
JUDGEMENT = "kafka-reranker.judgement.v1"


def headers(event_id: str, event_type: str, source: str, time_s: float) -> dict[str, bytes]:
    """Return the required attributes and `time`; `time_s` is Unix time."""
    time = datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds")
    return {
        "ce_specversion": SPEC_VERSION.encode(),
        "ce_id": event_id.encode(),
        "ce_type": event_type.encode(),
        "ce_source": source.encode(),
        "ce_time": time.replace("+00:00", "Z").encode(),
        "content-type": b"application/json",
    }


def trace_id(traceparent: bytes | None) -> str | None:
    """Return the 32 hex digits of the trace, or None where there is no valid traceparent."""
    if traceparent is None:
        return None
    parts = traceparent.split(b"-")
    if len(parts) < 4 or len(parts[1]) != 32 or parts[1] == b"0" * 32:
        return None
    text = parts[1].decode("ascii", "replace")
    return text if all(digit in "0123456789abcdef" for digit in text) else None
