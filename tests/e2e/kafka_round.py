"""All that a worker does with a broker, once: `python -m tests.e2e.kafka_round`.

Reads settings from the environment, takes one record, writes one to each other topic and commits.
Says what went wrong on standard error, as the worker would.
"""

import sys
import time

from worker.errors import WorkerError
from worker.kafka_broker import KafkaBroker
from worker.kafka_client import check_topics, make_consumer, make_producer, message_limits
from worker.records import Outgoing, next_offsets
from worker.settings import Settings
from worker.watchdog import Watchdog

TIMEOUT_S = 180


def main() -> int:
    """Do one round and return the exit code."""
    settings = Settings().kafka
    try:
        consumer = make_consumer(settings, fetch_bytes=1024 * 1024)
        check_topics(consumer, settings)
        limits = message_limits(settings)
        broker = KafkaBroker(consumer, make_producer(settings), settings, Watchdog())
        broker.join()
        one_round(broker, settings.topics.model_dump())
        broker.close()
    except WorkerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if set(limits) != set(settings.topics.model_dump().values()):
        sys.stderr.write(f"limits of {sorted(limits)} only\n")
        return 1
    return 0


def one_round(broker: KafkaBroker, topics: dict[str, str]) -> None:
    """Poll until a record comes, answer it on all topics, and commit."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline_s:
        polled = broker.poll(1, 0.2)
        if polled.moved:
            broker.rewind()
        if polled.records and polled.lease is not None:
            outgoing = [
                Outgoing(topic, b"k", b"v", ())
                for name, topic in topics.items()
                if name != "queries"
            ]
            broker.commit(outgoing, next_offsets(list(polled.records)), polled.lease)
            return
    raise WorkerError("no record came")


if __name__ == "__main__":
    sys.exit(main())
