"""The broker of the dev overlay starts with the configuration that it has there."""

import subprocess
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from tests.conftest import missing
from tests.services.kafka_jars import QUICK_START, find_jars, find_java
from tests.services.process import ServiceMissing, ServiceProcess, await_condition, free_ports

DEV = Path(__file__).resolve().parents[2] / "k8s/overlays/dev/kafka"


@pytest.mark.slow
@pytest.mark.kafka
def test_the_dev_broker_starts_and_takes_topics(tmp_path: Path) -> None:
    try:
        java, libs = find_java(), find_jars()
    except ServiceMissing as error:
        missing(str(error))
    port, controller = free_ports(2)
    text = (DEV / "server.properties").read_text()
    changes = {
        "kafka.kafka-reranker.svc:9092": f"127.0.0.1:{port}",
        "0.0.0.0:9092": f"127.0.0.1:{port}",
        "localhost:9093": f"localhost:{controller}",
        "/data/logs": str(tmp_path / "data"),
    }
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    properties = tmp_path / "server.properties"
    properties.write_text(text)
    classes = ["-Xmx384m", *QUICK_START, "-cp", f"{libs}/*"]
    flags = ["--ignore-formatted", "--standalone", "--cluster-id", "cmVyYW5rZXItb24ta3ViZQ"]
    subprocess.run(
        [java, *classes, "kafka.tools.StorageTool", "format", *flags, "--config", str(properties)],
        check=True,
        capture_output=True,
    )
    broker = ServiceProcess("kafka", [java, *classes, "kafka.Kafka", str(properties)], tmp_path)
    broker.start()
    try:
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0})
        await_condition(
            lambda: answers(admin, broker), 180, lambda: broker.describe("does not answer")
        )
        made = admin.create_topics([NewTopic("rerank.queries", 3, 1)])["rerank.queries"]
        made.result(timeout=120)
        assert len(admin.list_topics(timeout=60).topics["rerank.queries"].partitions) == 3
    finally:
        broker.kill()


def answers(admin: AdminClient, broker: ServiceProcess) -> bool:
    assert broker.alive, broker.describe("ended by itself")
    try:
        return bool(admin.list_topics(timeout=5).brokers)
    except KafkaException:
        return False


def test_the_cluster_id_and_flags_are_those_of_the_manifest() -> None:
    text = (DEV / "statefulset.yaml").read_text()
    assert "--ignore-formatted --standalone" in text
    assert "--cluster-id cmVyYW5rZXItb24ta3ViZQ" in text
