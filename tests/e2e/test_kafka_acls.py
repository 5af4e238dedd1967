"""The rights of the KafkaUsers in the manifests: enough for what each does, and none to spare."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.checker import Outgoing, committed_offsets, produce, read_topic
from tests.conftest import missing
from tests.services.kafka import KafkaCluster
from tests.services.process import ServiceMissing, await_condition

REPOSITORY = Path(__file__).resolve().parents[2]
USERS = REPOSITORY / "k8s/components/strimzi/users.yaml"
TOPICS = ("rerank.queries", "rerank.results", "rerank.feedback", "rerank.dead-letters")
WORKER, APPLICATION, PASSWORD = "kafka-reranker", "kafka-reranker-application", "secret"
GROUP = "kafka-reranker"
TYPES = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactionalId": ResourceType.TRANSACTIONAL_ID,
}
OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}


@dataclass(frozen=True)
class Rule:
    """One right of one user."""

    user: str
    kind: str
    name: str
    pattern: str
    operation: str

    def binding(self) -> AclBinding:
        """The right as the broker takes it."""
        pattern = {"literal": ResourcePatternType.LITERAL, "prefix": ResourcePatternType.PREFIXED}
        return AclBinding(
            TYPES[self.kind],
            self.name,
            pattern[self.pattern],
            f"User:{self.user}",
            "*",
            OPERATIONS[self.operation],
            AclPermissionType.ALLOW,
        )


def rules() -> list[Rule]:
    """All rights that the manifests give."""
    return [
        Rule(
            user["metadata"]["name"],
            acl["resource"]["type"],
            acl["resource"]["name"],
            acl["resource"]["patternType"],
            operation,
        )
        for user in yaml.safe_load_all(USERS.read_text())
        for acl in user["spec"]["authorization"]["acls"]
        for operation in acl["operations"]
    ]


WORKER_RULES = [rule for rule in rules() if rule.user == WORKER]


@dataclass(frozen=True)
class Secured:
    """A cluster that lets nobody do what no rule allows, but for its plain listener."""

    cluster: KafkaCluster
    admin: AdminClient

    def allow(self, chosen: Sequence[Rule]) -> None:
        """Replace all rules, and return when the broker has them."""
        anything = AclBindingFilter(
            ResourceType.ANY,
            None,
            ResourcePatternType.ANY,
            None,
            None,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        for deleted in self.admin.delete_acls([anything]).values():
            deleted.result()
        for created in self.admin.create_acls([rule.binding() for rule in chosen]).values():
            created.result()
        # The controller has them: the broker that decides learns of them a moment later.
        wanted = {str(rule.binding()) for rule in chosen}
        await_condition(
            lambda: {str(found) for found in self.admin.describe_acls(anything).result()} == wanted,
            120,
            lambda: "the broker does not learn of its rules",
        )

    def client(self, user: str, **more: Any) -> dict[str, Any]:
        """Options of a client that logs in."""
        return {
            "bootstrap.servers": self.cluster.bootstrap_of("CLIENTS"),
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": PASSWORD,
            "log_level": 0,
            **more,
        }


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    users = [f"SCRAM-SHA-512=[name={user},password={PASSWORD}]" for user in (WORKER, APPLICATION)]
    cluster = KafkaCluster(
        listeners={"CLIENTS": "SASL_PLAINTEXT"},
        extra_properties={
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.clients.scram-sha-512.sasl.jaas.config": scram,
        },
        format_arguments=[part for user in users for part in ("--add-scram", user)],
    )
    try:
        cluster.start()
    except ServiceMissing as error:
        missing(str(error))
    cluster.create_topics(dict.fromkeys(TOPICS, 1))
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})
    yield Secured(cluster, admin)
    cluster.stop()


@pytest.fixture
def one_round(secured: Secured) -> Callable[[], "subprocess.CompletedProcess[str]"]:
    def run() -> "subprocess.CompletedProcess[str]":
        produce(secured.cluster.bootstrap_servers, TOPICS[0], [Outgoing(b"k", b"v")])
        settings = {
            "BOOTSTRAP_SERVERS": secured.cluster.bootstrap_of("CLIENTS"),
            "GROUP_ID": GROUP,
            "SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "SASL_MECHANISM": "SCRAM-SHA-512",
            "SASL_USERNAME": WORKER,
            "SASL_PASSWORD": PASSWORD,
            "START_TIMEOUT_MS": "60000",
        }
        return subprocess.run(
            [sys.executable, "-m", "tests.e2e.kafka_round"],
            cwd=REPOSITORY,
            env={**os.environ, **{f"RERANKER_KAFKA__{k}": v for k, v in settings.items()}},
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )

    return run


@pytest.mark.slow
@pytest.mark.kafka
def test_the_workers_rights_are_enough(
    secured: Secured, one_round: Callable[[], "subprocess.CompletedProcess[str]"]
) -> None:
    secured.allow(rules())
    before = committed_offsets(secured.cluster.bootstrap_servers, GROUP, TOPICS[0])
    done = one_round()
    assert done.returncode == 0, done.stderr
    after = committed_offsets(secured.cluster.bootstrap_servers, GROUP, TOPICS[0])
    assert after.get(0, 0) > before.get(0, 0)
    for topic in TOPICS[1:]:
        assert read_topic(secured.cluster.bootstrap_servers, topic)


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.parametrize(
    "left_out", WORKER_RULES, ids=lambda rule: f"{rule.operation}-{rule.kind}-{rule.name}"
)
def test_without_any_one_of_them_a_worker_fails(
    secured: Secured,
    one_round: Callable[[], "subprocess.CompletedProcess[str]"],
    left_out: Rule,
) -> None:
    secured.allow([rule for rule in rules() if rule != left_out])
    done = one_round()
    assert done.returncode != 0
    said = ("Authorization", "may not be described", "may Write", "limits of")
    assert any(each in done.stderr for each in said), done.stderr
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.slow
@pytest.mark.kafka
def test_an_application_asks_reads_and_clicks_and_no_more(secured: Secured) -> None:
    secured.allow(rules())
    refused: list[KafkaError] = []
    producer = Producer(secured.client(APPLICATION, **{"message.timeout.ms": 60_000}))
    for topic in TOPICS:
        producer.produce(
            topic, b"v", on_delivery=lambda error, _: refused.append(error) if error else None
        )
    assert producer.flush(120) == 0
    assert [error.code() for error in refused] == [KafkaError.TOPIC_AUTHORIZATION_FAILED] * 2
    produce(secured.cluster.bootstrap_servers, "rerank.results", [Outgoing(b"k", b"answer")])
    options = {"group.id": f"{APPLICATION}-1", "auto.offset.reset": "earliest"}
    consumer = Consumer(secured.client(APPLICATION, **options))
    consumer.subscribe(["rerank.results"])
    message = consumer.poll(120)
    assert message is not None
    assert message.error() is None
    consumer.close()
