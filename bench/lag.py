"""The lag of a consumer group, as a scaler outside of the group reads it."""

from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition

REQUEST_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class LagReader:
    """Reads the end and the group's committed offset of each partition of one topic.

    The client names the group and never joins it.
    """

    client: Consumer
    topic: str
    partitions: int

    @classmethod
    def open(cls, bootstrap: str, group: str, topic: str, partitions: int) -> "LagReader":
        """Return a reader; connects when it first reads."""
        options = {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "log_level": 0,
            "enable.auto.commit": False,
            # As KEDA asks: ends and offsets as they are, not waiting for open transactions.
            "isolation.level": "read_uncommitted",
        }
        return cls(Consumer(options), topic, partitions)

    def read(self) -> Mapping[int, int] | None:
        """Return each partition's lag, or None while the broker doesn't say.

        A partition without a committed offset counts from its beginning.
        """
        places = [TopicPartition(self.topic, number) for number in range(self.partitions)]
        try:
            committed = self.client.committed(places, timeout=REQUEST_TIMEOUT_S)
            ends = {
                place.partition: self.client.get_watermark_offsets(place, timeout=REQUEST_TIMEOUT_S)
                for place in places
            }
        except KafkaException:
            return None
        return {
            place.partition: ends[place.partition][1] - max(0, place.offset) for place in committed
        }

    def close(self) -> None:
        """Close the client."""
        self.client.close()
