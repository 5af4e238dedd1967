"""Read ranked lists, with confluent-kafka."""

import json
import os

from confluent_kafka import Consumer, KafkaException

settings = {
    "bootstrap.servers": os.environ.get("KAFKA", "localhost:9092"),
    "group.id": os.environ.get("GROUP", "shop"),
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
}
consumer = Consumer(settings)
consumer.subscribe([os.environ.get("RESULTS", "rerank.results")])
while True:
    record = consumer.poll(1.0)
    if record is None:
        continue
    if record.error():
        raise KafkaException(record.error())
    answer = json.loads(record.value())
    print(answer["query_id"], answer["tier"], answer["degraded"] or "", flush=True)
    for document in answer["ranking"]:
        print(f"  {document['rank']}. {document['doc_id']} {document['score']}", flush=True)
    consumer.commit(record, asynchronous=False)
