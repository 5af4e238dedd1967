"""Read ranked lists, with kafka-python."""

import json
import os

from kafka import KafkaConsumer

consumer = KafkaConsumer(
    os.environ.get("RESULTS", "rerank.results"),
    bootstrap_servers=os.environ.get("KAFKA", "localhost:9092"),
    group_id=os.environ.get("GROUP", "shop"),
    isolation_level="read_committed",  # the default also shows what was taken back
    auto_offset_reset="earliest",
    enable_auto_commit=False,
)
for record in consumer:
    answer = json.loads(record.value)
    print(answer["query_id"], answer["tier"], answer["degraded"] or "", flush=True)
    for document in answer["ranking"]:
        print(f"  {document['rank']}. {document['doc_id']} {document['score']}", flush=True)
    consumer.commit()
