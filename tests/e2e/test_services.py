"""The services themselves: what other tests lean on must hold first."""

import os
import socket
import threading
from collections.abc import Callable

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.checker import (
    Outgoing,
    committed_offsets,
    end_offsets,
    produce,
    read_topic,
    wait_for_count,
)
from tests.services.kafka import KafkaCluster
from tests.services.process import ServiceMissing, await_condition
from tests.services.proxy import Proxy
from tests.services.redis import RedisServer
from tests.services.topics import Topics

NewTopics = Callable[..., Topics]
NewCluster = Callable[..., KafkaCluster]
SASL_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


def numbered(count: int, **placed: int) -> list[Outgoing]:
    return [Outgoing(f"q-{number}".encode(), b"{}", (), **placed) for number in range(count)]


def transactional(bootstrap: str, name: str, timeout_ms: int = 300_000) -> Producer:
    settings = {"bootstrap.servers": bootstrap, "transactional.id": name, "log_level": 0}
    producer = Producer({**settings, "transaction.timeout.ms": timeout_ms})
    producer.init_transactions(120)
    return producer


def test_topics_are_new_and_have_the_partitions_asked_for(
    kafka: KafkaCluster, topics: NewTopics
) -> None:
    one, two = topics(queries=4, results=2), topics()
    assert not set(one) & set(two)
    assert sorted(end_offsets(kafka.bootstrap_servers, one.queries)) == [0, 1, 2, 3]
    assert sorted(end_offsets(kafka.bootstrap_servers, one.results)) == [0, 1]
    assert sorted(end_offsets(kafka.bootstrap_servers, two.queries)) == [0]


def test_what_is_produced_is_read(kafka: KafkaCluster, topics: NewTopics) -> None:
    queries = topics(queries=3).queries
    sent = [
        Outgoing(f"q-{number}".encode(), b"\xff\x00", (("traceparent", b"00-1"), ("empty", None)))
        for number in range(200)
    ]
    produced = produce(kafka.bootstrap_servers, queries, sent)
    assert [record.key for record in produced] == [one.key for one in sent]
    read = read_topic(kafka.bootstrap_servers, queries)
    assert read == sorted(produced, key=lambda record: (record.partition, record.offset))
    assert {record.partition for record in read} == {0, 1, 2}
    assert len(wait_for_count(kafka.bootstrap_servers, queries, 200)) == 200


def test_waiting_in_vain_says_how_many_came(kafka: KafkaCluster, topics: NewTopics) -> None:
    queries = topics().queries
    produce(kafka.bootstrap_servers, queries, numbered(2))
    with pytest.raises(AssertionError, match="2 of 3 records came"):
        wait_for_count(kafka.bootstrap_servers, queries, 3, timeout_s=1)


def test_the_checker_sees_committed_transactions_only(
    kafka: KafkaCluster, topics: NewTopics
) -> None:
    results = topics().results
    producer = transactional(kafka.bootstrap_servers, results)
    for ending in (producer.abort_transaction, producer.commit_transaction):
        producer.begin_transaction()
        producer.produce(results, b"{}", ending.__name__)
        ending()
    producer.begin_transaction()
    producer.produce(results, b"{}", "open")
    producer.flush(60)
    keys = [record.key for record in read_topic(kafka.bootstrap_servers, results)]
    assert keys == [b"commit_transaction"]
    producer.commit_transaction()
    wait_for_count(kafka.bootstrap_servers, results, 2)
    keys = [record.key for record in read_topic(kafka.bootstrap_servers, results)]
    assert keys == [b"commit_transaction", b"open"]


def test_a_transaction_is_aborted_soon_after_its_timeout(
    kafka: KafkaCluster, topics: NewTopics
) -> None:
    results = topics().results
    dead = transactional(kafka.bootstrap_servers, results, timeout_ms=1000)
    dead.begin_transaction()
    dead.produce(results, b"{}", "never")
    dead.flush(60)
    produce(kafka.bootstrap_servers, results, numbered(1))
    (record,) = wait_for_count(kafka.bootstrap_servers, results, 1)
    assert record.query_id == "q-0"


def test_committed_offsets_of_a_group_that_never_was(
    kafka: KafkaCluster, topics: NewTopics
) -> None:
    fresh = topics(queries=2)
    assert committed_offsets(kafka.bootstrap_servers, fresh.group_id, fresh.queries) == {}


def test_killed_and_restarted_the_broker_keeps_all(kafka_cluster: NewCluster) -> None:
    cluster = kafka_cluster()
    address = cluster.bootstrap_servers
    cluster.create_topic("kept", 2)
    produced = produce(address, "kept", numbered(100))
    cluster.kill()
    assert cluster.alive() == []
    cluster.restart()
    assert cluster.bootstrap_servers == address
    assert len(wait_for_count(address, "kept", 100)) == len(produced)
    assert len(produce(address, "kept", numbered(1))) == 1


def test_a_paused_broker_keeps_its_connections(kafka_cluster: NewCluster) -> None:
    cluster = kafka_cluster()
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})
    admin.list_topics(timeout=60)
    cluster.pause()
    with pytest.raises(KafkaException):
        admin.list_topics(timeout=0.5)
    cluster.resume()
    assert list(admin.list_topics(timeout=60).brokers) == [1]


def test_a_broker_restarted_by_a_thread_outlives_it(kafka_cluster: NewCluster) -> None:
    cluster = kafka_cluster()
    thread = threading.Thread(target=cluster.restart)
    thread.start()
    thread.join()
    assert cluster.alive() == [1]
    cluster.create_topic("after")


@pytest.mark.slow
def test_three_nodes_survive_the_loss_of_a_leader(kafka_cluster: NewCluster) -> None:
    cluster = kafka_cluster(nodes=3)
    cluster.create_topic("kept")
    before = produce(cluster.bootstrap_servers, "kept", numbered(50))
    leader = cluster.leader("kept")
    cluster.kill(leader)
    await_condition(
        lambda: cluster.leader("kept") not in (leader, -1), 180, lambda: "no leader is elected"
    )
    after = produce(cluster.bootstrap_servers, "kept", numbered(50))
    cluster.restart(leader)
    assert len(cluster.alive()) == 3
    assert read_topic(cluster.bootstrap_servers, "kept") == [*before, *after]


def test_a_listener_with_passwords(kafka_cluster: NewCluster) -> None:
    cluster = kafka_cluster(
        listeners={"CLIENTS": "SASL_PLAINTEXT"},
        extra_properties={
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.clients.plain.sasl.jaas.config": f'{SASL_LOGIN} user_alice="right";',
        },
    )

    def ask(password: str, timeout_s: float) -> list[int]:
        settings = {
            "bootstrap.servers": cluster.bootstrap_of("CLIENTS"),
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "alice",
            "sasl.password": password,
            "log_level": 0,
        }
        return list(AdminClient(settings).list_topics(timeout=timeout_s).brokers)

    assert ask("right", 60) == [1]
    with pytest.raises(KafkaException):
        ask("wrong", 5)


def test_a_proxy_between_clients_and_broker(kafka_cluster: NewCluster) -> None:
    """The broker advertises the proxy, so that clients come back to it."""
    with Proxy() as proxy:
        cluster = kafka_cluster(
            listeners={"FAULTY": "PLAINTEXT"}, advertised={"FAULTY": proxy.address}
        )
        proxy.target = cluster.address(listener="FAULTY")
        cluster.create_topic("through")
        produce(proxy.address, "through", numbered(10))
        proxy.refuse()
        with pytest.raises(AssertionError, match="not delivered"):
            produce(proxy.address, "through", numbered(1), timeout_s=1)
        proxy.open()
        produce(proxy.address, "through", numbered(1))
        assert len(read_topic(cluster.bootstrap_servers, "through")) == 11


def test_without_java_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(ServiceMissing, match="apt-get install openjdk-17"), KafkaCluster():
        pass
    with pytest.raises(ServiceMissing, match="apt-get install redis"), RedisServer():
        pass


def test_redis_forgets_on_restart_and_keeps_its_port(redis_server: RedisServer) -> None:
    port = redis_server.port
    with Redis.from_url(redis_server.url) as client:
        client.set("key", "value")
        redis_server.stop()
        with pytest.raises(RedisConnectionError):
            client.get("key")
        redis_server.start()
        assert client.get("key") is None
    assert redis_server.port == port


def test_redis_url_is_an_empty_database(redis_server: RedisServer, redis_url: str) -> None:
    with Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


def test_paused_redis_accepts_and_stays_silent(redis_server: RedisServer) -> None:
    redis_server.pause()
    try:
        with socket.create_connection(("127.0.0.1", redis_server.port), timeout=60) as connection:
            connection.sendall(b"PING\r\n")
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                connection.recv(16)
            redis_server.resume()
            connection.settimeout(60)
            assert connection.recv(16) == b"+PONG\r\n"
    finally:
        redis_server.resume()
