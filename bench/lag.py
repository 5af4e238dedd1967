"""The lag of a consumer group, as a scaler outside of the group reads it."""

from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

REQUEST_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class LagReader:
    """Reads the end and the group's committed offset of each partition of one topic."""

    admin: AdminClient
    group: str
    topic: str
    partitions: int

    def read(self) -> Mapping[int, int]:
        """Return each partition's lag; one without a commit counts from its beginning."""
        places = [TopicPartition(self.topic, number) for number in range(self.partitions)]
        ends = self.admin.list_offsets(
            {place: OffsetSpec.latest() for place in places}, request_timeout=REQUEST_TIMEOUT_S
        )
        answer = self.admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(self.group, places)], request_timeout=REQUEST_TIMEOUT_S
        )[self.group]
        committed = {
            place.partition: max(0, place.offset) for place in answer.result().topic_partitions
        }
        return {
            place.partition: future.result().offset - committed.get(place.partition, 0)
            for place, future in ends.items()
        }
