"""A record of neither key nor value, which Kafka knows and kafka-python refuses to send.

It comes in from other clients, and its dead letter must go out, or it would be read and refused
for ever. The client checks before it calls the serializer, and writes nulls correctly after it: so
the value passes the check as a stand-in, and the serializer puts the null back.
"""

from typing import Any

from kafka.serializer import Serializer


class _Null(bytes):
    """A stand-in, known by its identity: empty bytes are something else."""


_NULL = _Null()


def sendable(value: bytes | None) -> bytes:
    """Return a value that the client accepts; `NullSerializer` turns it back."""
    return _NULL if value is None else value


class NullSerializer(Serializer):  # type: ignore[misc]
    """The producer's value serializer."""

    def serialize(self, topic: str, headers: Any, data: bytes) -> bytes | None:  # noqa: ARG002
        """Put a null back."""
        return None if data is _NULL else data
