"""Topics are the same whether the Job makes them or Strimzi does."""

import os
import subprocess
from pathlib import Path

import yaml

from worker.settings import LimitSettings, TopicSettings

COMPONENTS = Path(__file__).resolve().parents[3] / "k8s/components"
RECORDER = (
    '#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done >> "$RECORD"\necho >> "$RECORD"\n'
)


def run_script(tmp_path: Path, **variables: str) -> list[list[str]]:
    """Run the Job's script with a kafka-topics.sh that only notes what it is told."""
    tool = tmp_path / "kafka-topics.sh"
    tool.write_text(RECORDER)
    tool.chmod(0o755)
    record = tmp_path / "record"
    subprocess.run(
        ["bash", "-eu", str(COMPONENTS / "topics-job/topics.sh")],
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "RECORD": str(record),
            "RERANKER_KAFKA__BOOTSTRAP_SERVERS": "a:9092,b:9092",
            "PARTITIONS": "12",
            "REPLICATION": "3",
            **variables,
        },
        check=True,
    )
    return [call.split("\n") for call in record.read_text().strip().split("\n\n")]


def option(call: list[str], name: str) -> list[str]:
    return [call[place + 1] for place, word in enumerate(call) if word == name]


def test_the_job_makes_what_strimzi_makes(tmp_path: Path) -> None:
    strimzi = {
        topic["metadata"]["name"]: topic["spec"]["config"]
        for topic in yaml.safe_load_all((COMPONENTS / "strimzi/topics.yaml").read_text())
    }
    calls = run_script(tmp_path)
    job = {option(call, "--topic")[0]: call for call in calls}
    assert set(job) == set(strimzi) == set(TopicSettings().model_dump().values())
    for name, call in job.items():
        config = dict(each.split("=") for each in option(call, "--config"))
        assert int(config["retention.ms"]) == strimzi[name]["retention.ms"]
        assert int(config["max.message.bytes"]) == strimzi[name]["max.message.bytes"]
        assert int(config["min.insync.replicas"]) == strimzi[name]["min.insync.replicas"]
        assert int(config["max.message.bytes"]) > LimitSettings().event_bytes
        assert option(call, "--partitions") == ["12"]
        assert option(call, "--replication-factor") == ["3"]
        assert option(call, "--bootstrap-server") == ["a:9092,b:9092"]
        assert "--if-not-exists" in call
        assert "--command-config" not in call


def test_the_job_can_log_in(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text("security.protocol=SASL_SSL\n")
    for call in run_script(tmp_path, CLIENT_PROPERTIES=str(file)):
        assert option(call, "--command-config") == [str(file)]


def test_a_topic_of_one_replica_can_be_written(tmp_path: Path) -> None:
    for call in run_script(tmp_path, REPLICATION="1"):
        assert "min.insync.replicas=1" in option(call, "--config")


def test_the_job_finds_its_login_where_the_manifest_puts_it() -> None:
    job = yaml.safe_load((COMPONENTS / "topics-job/job.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    secret = next(each["secret"] for each in pod["volumes"] if each["name"] == "client")
    mount = next(each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "client")
    script = (COMPONENTS / "topics-job/topics.sh").read_text()
    assert f"{mount['mountPath']}/client.properties" in script
    assert secret["optional"] is True
