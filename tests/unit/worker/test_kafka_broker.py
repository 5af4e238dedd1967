"""The order of calls that exactly-once depends on, with clients that fail on demand."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.errors import (
    CommitFailedError,
    CorruptRecordError,
    InvalidProducerEpochError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
    OutOfOrderSequenceNumberError,
    ProducerFencedError,
)
from kafka.structs import ConsumerGroupMetadata, MemberState

from worker.broker import Lease
from worker.errors import (
    CommitAbortedError,
    FatalError,
    FencedError,
    StartError,
    TransientError,
    WorkerError,
)
from worker.kafka_broker import KafkaBroker
from worker.kafka_client import check_topics
from worker.records import Outgoing, Partition
from worker.settings import KafkaSettings
from worker.watchdog import Watchdog

LEASE = Lease("group", 7, "member")
OFFSETS = {Partition("queries", 0): 5}
RECORDS = [Outgoing("results", b"k", b"v", ()), Outgoing("feedback", b"k", b"v", ())]


class Future:
    def __init__(self, calls: list[str], error: Exception | None) -> None:
        self._calls = calls
        self._error = error

    def get(self, timeout: float) -> None:
        self._calls.append("await")
        if self._error is not None:
            raise self._error


class Producer:
    """Notes its calls; `errors` are raised by the call of that name, `await` by the last future."""

    def __init__(self, **errors: Exception) -> None:
        self.calls: list[str] = []
        self._errors = errors

    def __getattr__(self, name: str) -> Any:
        def call(*_: object, **__: object) -> None:
            self.calls.append(name)
            if name in self._errors:
                raise self._errors[name]

        return call

    def send(self, topic: str, value: bytes, **_: object) -> Future:
        self.calls.append("send")
        return Future(self.calls, self._errors.get("future") if topic == "feedback" else None)


class Consumer:
    """Gives one state of membership after each poll."""

    def __init__(self, states: list[str]) -> None:
        self._states: Iterator[str] = iter(states)
        self._state = MemberState.UNJOINED
        self.polls: list[int] = []
        self.closed_within_ms = 0
        self.rejoins = 0
        self._coordinator = self  # The client's own, asked for what it has forgotten.

    def request_rejoin(self) -> None:
        self.rejoins += 1

    def poll(self, timeout_ms: int, max_records: int) -> dict[Any, Any]:
        self.polls.append(timeout_ms)
        self._state = next(self._states)
        return {}

    def group_metadata(self) -> ConsumerGroupMetadata:
        return ConsumerGroupMetadata("group", 7, "member", None, self._state)

    def close(self, autocommit: bool, timeout_ms: int) -> None:
        assert not autocommit
        self.closed_within_ms = timeout_ms

    def assignment(self) -> set[Any]:
        return set()


def broker_with(producer: Producer, states: list[str] | None = None) -> KafkaBroker:
    return KafkaBroker(Consumer(states or []), producer, KafkaSettings(), Watchdog())


class Limits(Watchdog):
    """Notes how long each step may take."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: list[tuple[str, float]] = []

    @contextlib.contextmanager
    def limit(self, step: str, seconds: float) -> Iterator[None]:
        self.limits.append((step, seconds))
        with super().limit(step, seconds):
            yield


def test_a_commit_may_take_as_long_as_its_transaction_and_little_more() -> None:
    """The process of one that takes longer ends: it could never be told what became of it."""
    settings, watchdog = KafkaSettings(), Limits()
    producer = Producer()
    KafkaBroker(Consumer([]), producer, settings, watchdog).commit(RECORDS, OFFSETS, LEASE)
    ((step, seconds),) = watchdog.limits
    assert step == "commit"
    assert 0 < seconds - settings.transaction_timeout_ms / 1000 <= 3
    assert producer.calls[-1] == "commit_transaction", "the limit encloses all of it"


def test_records_are_awaited_before_offsets_are_sent() -> None:
    producer = Producer()
    broker_with(producer).commit(RECORDS, OFFSETS, LEASE)
    assert producer.calls == [
        "begin_transaction",
        "send",
        "send",
        "flush",
        "await",
        "await",
        "send_offsets_to_transaction",
        "commit_transaction",
    ]


@pytest.mark.parametrize(
    ("errors", "raised"),
    [
        ({"future": KafkaTimeoutError()}, CommitAbortedError),
        ({"flush": KafkaTimeoutError()}, CommitAbortedError),
        ({"future": OutOfOrderSequenceNumberError()}, WorkerError),
        ({"future": InvalidProducerEpochError()}, WorkerError),
        ({"future": KafkaTimeoutError(), "abort_transaction": KafkaError()}, FencedError),
        ({"begin_transaction": KafkaError()}, FencedError),
    ],
)
def test_after_a_record_that_was_not_written_no_offset_moves(
    errors: dict[str, Exception], raised: type[WorkerError]
) -> None:
    producer = Producer(**errors)
    with pytest.raises(raised):
        broker_with(producer).commit(RECORDS, OFFSETS, LEASE)
    assert "send_offsets_to_transaction" not in producer.calls
    assert "commit_transaction" not in producer.calls
    if "begin_transaction" not in errors:
        assert producer.calls[-1] == "abort_transaction"


@pytest.mark.parametrize(
    ("error", "raised", "aborts"),
    [
        (CommitFailedError(), CommitAbortedError, True),
        (ProducerFencedError(), FencedError, False),
        (KafkaError("unknown reasons"), FencedError, False),
        (KafkaTimeoutError(), FencedError, False),
    ],
)
def test_offsets_that_are_refused_are_not_committed(
    error: Exception, raised: type[WorkerError], aborts: bool
) -> None:
    producer = Producer(send_offsets_to_transaction=error)
    with pytest.raises(raised):
        broker_with(producer).commit(RECORDS, OFFSETS, LEASE)
    assert "commit_transaction" not in producer.calls
    assert ("abort_transaction" in producer.calls) == aborts


@pytest.mark.parametrize("error", [KafkaError(), KafkaTimeoutError(), ProducerFencedError()])
def test_a_commit_of_unknown_outcome_is_the_end(error: Exception) -> None:
    """Neither done again nor given up: both could be wrong."""
    producer = Producer(commit_transaction=error)
    with pytest.raises(FencedError, match="not known"):
        broker_with(producer).commit(RECORDS, OFFSETS, LEASE)
    assert producer.calls[-1] == "commit_transaction"


@pytest.mark.parametrize("error", [KafkaTimeoutError(), NodeNotReadyError(), CorruptRecordError()])
def test_what_can_t_be_read_is_no_aborted_transaction(error: KafkaError) -> None:
    """The metric counts those; an operator would look for a rebalance that never was."""

    class Unreadable(Consumer):
        def poll(self, timeout_ms: int, max_records: int) -> dict[Any, Any]:
            raise error

        def assignment(self) -> set[Any]:
            return {TopicPartition("queries", 0)}

        def committed(self, partition: Any, timeout_ms: int) -> int:
            raise error

    broker = KafkaBroker(Unreadable([]), Producer(), KafkaSettings(), Watchdog())
    expected = FatalError if isinstance(error, CorruptRecordError) else TransientError
    for call in (lambda: broker.poll(1, 0.0), broker.rewind):
        with pytest.raises(WorkerError) as caught:
            call()
        assert type(caught.value) is expected


def test_moves_are_noted_without_a_call_to_the_client() -> None:
    """Hazard 6: listeners run on the client's own thread, where a call that waits raises."""

    class Listening(Consumer):
        listener: Any = None

        def subscribe(self, topics: list[str], listener: Any) -> None:
            self.listener = listener

    stable = [MemberState.STABLE] * 6
    consumer = Listening(stable)
    broker = KafkaBroker(consumer, Producer(), KafkaSettings(), Watchdog())
    broker.join()
    assert broker.poll(1, 0.0).moved, "a new generation"
    assert not broker.poll(1, 0.0).moved
    calls = (
        consumer.listener.on_partitions_assigned,
        consumer.listener.on_partitions_revoked,
        consumer.listener.on_partitions_lost,
    )
    for moved in calls:
        # No client is within its reach.
        assert set(vars(consumer.listener)) == {"noted"}
        moved([])
        assert broker.poll(1, 0.0).moved
    assert not broker.poll(1, 0.0).moved


def test_while_a_join_is_under_way_polls_follow_one_another() -> None:
    """The client forgets a join that ends between two polls, and all members start over."""
    states = [MemberState.REBALANCING, MemberState.REBALANCING, MemberState.STABLE]
    broker = broker_with(Producer(), states)
    assert broker.poll(1, 0.003).moved
    consumer = broker._consumer
    assert len(consumer.polls) == 3
    assert consumer.rejoins == 2
    assert consumer.polls[0] == 3
    assert min(consumer.polls[1:]) >= 1000


@pytest.mark.parametrize(
    ("errors", "limit_ms"),
    [
        ({}, 5000),
        ({"commit_transaction": KafkaError()}, 250),
        ({"begin_transaction": KafkaError()}, 250),
    ],
)
def test_after_a_fatal_error_the_end_is_quick(errors: dict[str, Exception], limit_ms: int) -> None:
    """A broker that is gone would be waited for twice, past the time in which a worker must end."""
    broker = broker_with(Producer(**errors))
    with contextlib.suppress(FencedError):
        broker.commit(RECORDS, OFFSETS, LEASE)
    broker.close()
    assert broker._consumer.closed_within_ms == limit_ms


def test_a_node_that_goes_away_at_start_is_said_in_one_line() -> None:
    class Gone:
        def partitions_for_topic(self, topic: str) -> set[int]:
            raise KafkaConnectionError("111 ECONNREFUSED")

    with pytest.raises(StartError, match="topics can't be looked up"):
        check_topics(Gone(), KafkaSettings())
