"""A Kafka stand-in inside this process, so that the demo needs neither Java nor a server.

It is the mock cluster of librdkafka, which `confluent-kafka` brings along. **It gives no
guarantees**: nothing is stored on disk, nothing survives the process, and its transactions are
accepted without being kept. What must hold about delivery is tested on Apache Kafka.

Measured with confluent-kafka 2.16 and kafka-python 3.0.12; `test_embedded_broker.py` pins each
line, so that a new version that behaves otherwise is noticed.

What works, for kafka-python clients with `KAFKA_PYTHON_SETTINGS`:

- producing and consuming, with keys, headers and timestamps, in order within a partition;
- a consumer group with **one** member: join, heartbeats, leave, `commit()`, `committed()`;
- `init_transactions`, `begin`, `send`, `send_offsets_to_transaction`, `commit` and `abort`: all
  return without an error, so that a worker runs unchanged.

What does not:

- without `api_version=(2, 3)` a kafka-python client can't connect: it ends in "Unable to
  bootstrap" after its `bootstrap_timeout_ms`;
- offsets sent to a transaction are dropped: `committed()` stays `None`, and a worker that is
  started again reads the topic from its beginning;
- transactions isolate nothing: `read_committed` readers see records of open and of aborted ones;
- stale generations and fenced producers are not refused;
- a kafka-python consumer of records written in a transaction needs `check_crcs=False`, or stops
  at `CorruptRecordError` behind the first ended transaction;
- a second member of a group is not dealt with reliably: it may get no partitions, get them only
  after the first one's session, or end in `InvalidRequestError`; use one worker;
- a topic comes into being when it is first asked for, always with 4 partitions; creating one
  through an admin client times out;
- a group's first assignment takes 3 seconds, and each further one a second less than the
  member's `session_timeout_ms`, so that 6 seconds are a good choice for it (below 3 none works);
- a delivery report's timestamp means nothing; the one on the topic is right.
"""

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from confluent_kafka import Producer

# What a kafka-python client must be given; `check_crcs` is for consumers only.
KAFKA_PYTHON_SETTINGS = {"api_version": (2, 3)}
PARTITIONS = 4
_TIMEOUT_S = 30.0


class EmbeddedBroker:
    """One mock broker on a loopback port, for as long as the context lasts.

    Raises:
        confluent_kafka.KafkaException: on entering, when the mock does not come up.
    """

    def __init__(self) -> None:
        self._handle: Producer | None = None
        self.bootstrap_servers = ""

    def __enter__(self) -> Self:
        # The cluster lives as long as this handle; the address that is asked for is ignored.
        self._handle = Producer(
            {"bootstrap.servers": "unused", "test.mock.num.brokers": 1, "log_level": 0}
        )
        brokers = self._handle.list_topics(timeout=_TIMEOUT_S).brokers.values()
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handle = None
        self.bootstrap_servers = ""

    def create_topics(self, names: Iterable[str]) -> None:
        """Makes topics of `PARTITIONS` partitions each; those that are there stay as they are."""
        assert self._handle is not None, "the broker was not entered"
        for name in names:
            self._handle.list_topics(name, timeout=_TIMEOUT_S)
