"""Services and data that tests ask for by a fixture's name.

What a laptop lacks is skipped with a hint on how to install it; with `CI=true` it is a failure,
so that a green run there has run everything.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import settings
from redis import Redis

from tests.services.kafka import KafkaCluster
from tests.services.process import ServiceMissing
from tests.services.redis import RedisServer
from tests.services.topics import Topics, create_topics

REPOSITORY = Path(__file__).resolve().parents[1]
# No deadline of 200 ms for an example, which a busy machine outlasts. Where CI is set, Hypothesis'
# own profile for it has none either, and takes the same examples each time.
settings.register_profile("patient", deadline=None)
if "CI" not in os.environ:
    settings.load_profile("patient")
_MARKERS = {
    "kafka": {"kafka", "topics", "kafka_cluster"},
    "redis": {"redis_server", "redis_url"},
    "data": {"data_dir"},
}


def pytest_configure(config: pytest.Config) -> None:
    """Forgives kafka-python two things, where every other warning is an error.

    It reads its schemas in a way that Python 3.11 deprecates. And a client that is closed while
    a connection is being made leaves that socket to the garbage collector (`kafka/net/inet.py`
    closes it on no path), which then complains in whatever test is running.
    """
    for forgiven in (
        "ignore:(read|open)_text is deprecated:DeprecationWarning",
        "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning",
    ):
        config.addinivalue_line("filterwarnings", forgiven)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks a test by the services that its fixtures bring, for `-m "not kafka"`."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        for marker, names in _MARKERS.items():
            if fixtures & names:
                item.add_marker(marker)


def missing(reason: str) -> NoReturn:
    """Skips the test, or fails it where `CI` is `true`."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaCluster]:
    """One single-node cluster that all tests share. Tests that hurt it use `kafka_cluster`."""
    try:
        cluster = KafkaCluster()
        cluster.start()
    except ServiceMissing as error:
        missing(str(error))
    yield cluster
    cluster.stop()


@pytest.fixture
def kafka_cluster() -> Iterator[Callable[..., KafkaCluster]]:
    """Starts clusters that belong to one test, to be killed at will. Takes what it takes."""
    started: list[KafkaCluster] = []

    def start(nodes: int = 1, **options: Any) -> KafkaCluster:
        cluster = KafkaCluster(nodes, **options)
        started.append(cluster)
        try:
            cluster.start()
        except ServiceMissing as error:
            missing(str(error))
        return cluster

    yield start
    for cluster in started:
        cluster.stop()


@pytest.fixture
def topics(kafka: KafkaCluster) -> Callable[..., Topics]:
    """Creates fresh topics on the shared cluster: `topics(queries=4)`, one partition if unsaid."""
    return partial(create_topics, kafka)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis that all tests share. A test that stops it must start it again."""
    try:
        server = RedisServer().__enter__()
    except ServiceMissing as error:
        missing(str(error))
    yield server
    server.close()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of an empty database."""
    with Redis.from_url(redis_server.url) as client:
        client.flushdb()
    return redis_server.url


@pytest.fixture(scope="session")
def data_dir() -> Callable[[str], Path]:
    """Finds a third-party test collection by its name, such as `cacm` or `trecqa/test`."""
    root = Path(os.environ.get("RERANKER_TEST_DATA", REPOSITORY.parent / "shared" / "data"))

    def find(name: str) -> Path:
        folder = root / name
        if not folder.is_dir():
            missing(f"the collection {name} is not in {root}: set RERANKER_TEST_DATA to its parent")
        return folder

    return find
