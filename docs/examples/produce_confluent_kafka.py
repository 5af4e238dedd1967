"""Ask one question, with confluent-kafka."""

import json
import os
from datetime import UTC, datetime
from uuid import uuid4

from confluent_kafka import Producer

event = {"query_id": str(uuid4()), "query": "how do I read a file line by line?", "top_n": 5}
headers = {
    "ce_specversion": "1.0",
    "ce_id": event["query_id"],
    "ce_type": "kafka-reranker.query.v1",
    "ce_source": "/shop",
    "ce_time": datetime.now(UTC).isoformat(),
    "content-type": "application/json",
}
settings = {
    "bootstrap.servers": os.environ.get("KAFKA", "localhost:9092"),
    "enable.idempotence": True,
    "partitioner": "murmur2_random",  # as Java and kafka-python do; the default differs
}


def delivered(error: object, _record: object) -> None:
    """Say what became of it; without this, a failed delivery goes unnoticed."""
    print(error or event["query_id"])


producer = Producer(settings)
topic = os.environ.get("QUERIES", "rerank.queries")
producer.produce(
    topic, json.dumps(event), key=event["query_id"], headers=headers, on_delivery=delivered
)
producer.flush(30)
