"""Ask one question, with kafka-python."""

import json
import os
from datetime import UTC, datetime
from uuid import uuid4

from kafka import KafkaProducer

event = {"query_id": str(uuid4()), "query": "how do I read a file line by line?", "top_n": 5}
headers = {
    "ce_specversion": "1.0",
    "ce_id": event["query_id"],
    "ce_type": "kafka-reranker.query.v1",
    "ce_source": "/shop",
    "ce_time": datetime.now(UTC).isoformat(),
    "content-type": "application/json",
}
producer = KafkaProducer(bootstrap_servers=os.environ.get("KAFKA", "localhost:9092"), acks="all")
sent = producer.send(
    os.environ.get("QUERIES", "rerank.queries"),
    key=event["query_id"].encode(),
    value=json.dumps(event).encode(),
    headers=[(name, value.encode()) for name, value in headers.items()],
)
sent.get(timeout=30)  # raises when the broker did not take it
producer.close()
print(event["query_id"])
