"""A join that the client forgot is asked for again."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from kafka.coordinator.base import MemberState

from worker.kafka_broker import KafkaBroker
from worker.settings import KafkaSettings
from worker.watchdog import Watchdog


@dataclass
class ForgetfulConsumer:
    """As kafka-python 3.0.12 after a join for new metadata that outlasted the poll it began in.

    The assignment is made, so the client sees no more reason to join, and never takes up the end
    of the join: it stays in `REBALANCING`, and sends no heartbeat.
    """

    joined: bool = False
    asked: bool = False

    @property
    def _coordinator(self) -> Any:
        return self

    def request_rejoin(self) -> None:
        self.asked = True

    def poll(self, timeout_ms: int, max_records: int) -> dict[object, object]:
        self.joined = self.joined or self.asked
        return {}

    def assignment(self) -> set[object]:
        return set()

    def group_metadata(self) -> Any:
        state = MemberState.STABLE if self.joined else MemberState.REBALANCING
        return SimpleNamespace(group_id="g", generation_id=2, member_id="m", state=state)


def test_a_forgotten_join_is_asked_for_again() -> None:
    consumer = ForgetfulConsumer()
    broker = KafkaBroker(consumer, None, KafkaSettings(), Watchdog())
    broker.poll(1, 0.0)
    assert consumer.joined
    polled = broker.poll(1, 0.0)
    assert polled.lease is not None


def test_nobody_joins_who_has_joined() -> None:
    consumer = ForgetfulConsumer(joined=True)
    broker = KafkaBroker(consumer, None, KafkaSettings(), Watchdog())
    broker.poll(1, 0.0)
    assert not consumer.asked
