"""kafka-python's producer, with what version 3.0.12 gets wrong put right."""

from typing import Any

import kafka
from kafka.serializer import Serializer


class _Null(bytes):
    """A stand-in for null, known by its identity: empty bytes are something else."""


_NULL = _Null()


class NullSerializer(Serializer):  # type: ignore[misc]
    """Puts back the nulls for which `Producer` sends a stand-in."""

    def serialize(self, topic: str, headers: Any, data: bytes) -> bytes | None:  # noqa: ARG002
        """Return what is to be written."""
        return None if data is _NULL else data


class Producer(kafka.KafkaProducer):  # type: ignore[misc]
    """A transactional producer for `KafkaBroker`; its value serializer is `NullSerializer`."""

    def send(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        headers: list[tuple[str, bytes | None]] | None = None,
        **more: Any,
    ) -> Any:
        """Send what Kafka allows: no key and no value, or a header without a value.

        Such records come in from other clients, and their dead letters must go out, or they would
        be read and refused for ever. The client checks the value before it calls the serializer,
        and writes a null correctly after it. A header's null it can't write: an empty value comes
        close.
        """
        sendable = [(name, _or_empty(one)) for name, one in headers or []]
        stand_in = _NULL if value is None else value
        return super().send(topic, stand_in, key=key, headers=sendable, **more)

    def abort_transaction(self) -> None:
        """Abort, and forget the offsets of the transaction.

        The client keeps those that the coordinator has refused, and sends them with the next
        transaction: that would commit records which nobody has answered, of partitions that have
        moved to another worker.
        """
        super().abort_transaction()
        self._transaction_manager._pending_txn_offset_commits.clear()


def _or_empty(value: bytes | None) -> bytes:
    return b"" if value is None else value
