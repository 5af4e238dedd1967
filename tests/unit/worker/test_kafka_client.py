"""What the clients of Kafka are made with: defaults that would lose exactly-once are not left."""

from typing import Any

import kafka
import pytest

from worker import kafka_client
from worker.kafka_client import make_consumer, make_producer
from worker.settings import KafkaSettings


class Client:
    """Notes what it is made with."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def init_transactions(self) -> None:
        """See kafka-python."""


def test_consumers_are_as_exactly_once_needs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hazards 5, 7 and 8: what is read, where it begins, who commits, and who leaves."""
    monkeypatch.setattr(kafka, "KafkaConsumer", Client)
    options = make_consumer(KafkaSettings(), fetch_bytes=1000).options
    assert options["isolation_level"] == "read_committed"
    assert options["auto_offset_reset"] == "earliest"
    assert options["enable_auto_commit"] is False
    assert "group_instance_id" not in options, "a static member never leaves its group"
    assert options["fetch_max_bytes"] == options["max_partition_fetch_bytes"] == 1000


def test_each_producer_has_an_id_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """And gives a record up before the broker gives up its transaction: hazards 1 and 8."""
    monkeypatch.setattr(kafka_client, "Producer", Client)
    one, other = (make_producer(KafkaSettings()).options for _ in range(2))
    assert one["transactional_id"] != other["transactional_id"]
    assert one["acks"] == "all"
    assert one["request_timeout_ms"] < one["delivery_timeout_ms"] < one["transaction_timeout_ms"]
