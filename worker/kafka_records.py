"""kafka-python's record batches, with what version 3.0.12 gets wrong put right."""

from typing import Any

from kafka.record import memory_records
from kafka.record.default_records import DefaultRecordBatch


class LenientBatch(DefaultRecordBatch):  # type: ignore[misc]
    r"""Reads headers whose names are not UTF-8: a byte that is none becomes `\xNN`.

    Brokers take such names, whoever writes them. The client raises, and the next poll after that
    never returns: one such record would stop its partition, and each worker that takes it over.
    """

    def _read_msg(self) -> Any:
        try:
            return super()._read_msg()
        except UnicodeDecodeError:
            # The position has not moved yet. What is left of the batch is read the same way.
            self._buffer: Any = _Lenient(self._buffer)
            return super()._read_msg()


class _Part(bytearray):
    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002
        return super().decode(encoding, "backslashreplace")


class _Lenient(bytearray):
    """The bytes of a batch, whose parts decode whatever they are."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return _Part(found) if isinstance(found, bytearray) else found


def read_any_header_name() -> None:
    """Let all consumers of this process read such records."""
    memory_records.DefaultRecordBatch = LenientBatch
