"""The worker with a producer that fails on demand: `python -m tests.chaos.faulty_worker`.

The worker itself is as it is; only its producer and its model are wrapped.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kafka.errors import KafkaError, KafkaTimeoutError

from engine.graph import OnnxGraph
from tests.chaos.faults import FOLDER, SCORE_MS, UNSAFE, Fault, Signals, Step, fault_of
from worker import kafka_client
from worker.__main__ import end, main
from worker.kafka_broker import KafkaBroker
from worker.records import Outgoing

TOPIC_VARIABLE = "RERANKER_KAFKA__TOPICS__"
POLL_S = 0.02
LONG_S = 60.0


class FaultyProducer:
    """A transactional producer whose calls are steps. All else is the real one's."""

    def __init__(self, producer: Any, fault: Fault | None, signals: Signals) -> None:
        self._producer = producer
        self._fault = fault
        self._signals = signals
        self._counts: dict[str, int] = {}
        kinds: tuple[Step, ...] = ("results", "feedback", "dead_letters")
        self._kinds = {os.environ[TOPIC_VARIABLE + kind.upper()]: kind for kind in kinds}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def begin_transaction(self) -> None:
        """See kafka-python, as for the others."""
        self._do("begin", self._producer.begin_transaction)

    def send(self, topic: str, value: Any = None, **options: Any) -> Any:
        return self._do(
            self._kinds[topic], lambda: self._producer.send(topic, value, **options), flush=True
        )

    def send_offsets_to_transaction(self, offsets: Any, metadata: Any) -> None:
        self._do("offsets", lambda: self._producer.send_offsets_to_transaction(offsets, metadata))

    def commit_transaction(self) -> None:
        self._do("commit", self._producer.commit_transaction)

    def abort_transaction(self) -> None:
        self._do("abort", self._producer.abort_transaction)

    def _do(self, step: Step, call: Callable[[], Any], *, flush: bool = False) -> Any:
        self._counts[step] = self._counts.get(step, 0) + 1
        self._strike("before", step)
        lost = self._fault is not None and self._fault.action == "lose"
        done = TimedOut() if lost and self._strikes("before", step) else call()
        if flush and self._strikes("after", step):
            self._producer.flush()  # What was sent lies on the broker.
        self._strike("after", step)
        return done

    def _strikes(self, when: str, step: Step) -> bool:
        fault = self._fault
        return fault is not None and (fault.when, fault.step, fault.nth) == (
            when,
            step,
            self._counts[step],
        )

    def _strike(self, when: str, step: Step) -> None:
        self._signals.note(f"{when}:{step}")
        if not self._strikes(when, step):
            return
        assert self._fault is not None
        self._signals.reach()
        if self._fault.action == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        while self._fault.action == "wait" and not self._signals.may_go:
            time.sleep(POLL_S)


class TimedOut:
    """The future of a record that was not written."""

    def get(self, timeout: float) -> None:
        """See kafka-python."""
        raise KafkaTimeoutError("lost on purpose")


def slow_down(seconds: float) -> None:
    """Let each model batch take so much longer."""
    graph: Any = OnnxGraph
    run = graph.__call__

    def slow(*inputs: Any) -> Any:
        time.sleep(seconds)
        return run(*inputs)

    graph.__call__ = slow


def do_not_believe() -> None:
    """Let a commit go on whatever became of its records: for the test of the tests."""

    def send(self: KafkaBroker, records: Sequence[Outgoing]) -> None:
        futures = [
            self._producer.send(
                record.topic, record.value, key=record.key, headers=list(record.headers)
            )
            for record in records
        ]
        for future in futures:
            with contextlib.suppress(KafkaError):
                future.get(timeout=LONG_S)

    KafkaBroker._send = send  # type: ignore[method-assign]


if __name__ == "__main__":
    signals = Signals(Path(os.environ[FOLDER]))
    module: Any = kafka_client
    make_producer = module.Producer
    module.Producer = lambda **options: FaultyProducer(
        make_producer(**options), fault_of(), signals
    )
    if os.environ.get(UNSAFE):
        do_not_believe()
    if seconds := int(os.environ.get(SCORE_MS, "0")) / 1000:
        slow_down(seconds)
    end(main(sys.argv[1:]))
