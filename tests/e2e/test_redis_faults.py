"""Redis gone, silent, wrong or emptied under a real worker: the rankings stay the same."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest
from redis import Redis

from schemas.events import RankedDocument, RankedList
from tests.checker import Outgoing, produce, wait_for_count
from tests.services.kafka import KafkaCluster
from tests.services.process import await_condition
from tests.services.proxy import Proxy
from tests.services.redis import RedisServer
from tests.services.topics import Topics
from tests.services.worker import WorkerProcess, settings_for
from tests.unit.tiny_retrieval import write_counting_model
from worker.settings import RedisSettings

QUESTIONS = 4
# What a Redis is given that is away, silent or wrong; a fault must be what is noticed.
SHORT = {"TIMEOUT_MS": "1000", "RETRY_AFTER_MS": "300"}
# Where Redis answers or refuses at once: a busy machine is no fault, and a fault stays one.
PATIENT = {"TIMEOUT_MS": "60000", "RETRY_AFTER_MS": "600000"}


class Asker:
    """Asks the same questions again and again."""

    def __init__(self, kafka: KafkaCluster, names: Topics, worker: WorkerProcess) -> None:
        self._kafka = kafka
        self._names = names
        self.worker = worker
        self._asked = 0

    def ask(self) -> list[RankedList]:
        """One list for each question, in order."""
        bootstrap, first = self._kafka.bootstrap_servers, self._asked
        candidates = [{"doc_id": f"d{n}", "text": "file " * n} for n in range(6)]
        events = [
            {"query_id": f"q-{n}", "query": f"file {n}", "candidates": candidates}
            for n in range(QUESTIONS)
        ]
        produce(
            bootstrap,
            self._names.queries,
            [Outgoing(str(one["query_id"]).encode(), json.dumps(one).encode()) for one in events],
        )
        self._asked += QUESTIONS
        records = wait_for_count(bootstrap, self._names.results, self._asked)[first:]
        return [RankedList.model_validate_json(one.value or b"") for one in records]

    @property
    def failures(self) -> float:
        """Round trips that Redis did not answer."""
        return self.worker.metric("kafka_reranker_cache_failures_total")


def rankings(lists: list[RankedList]) -> list[tuple[RankedDocument, ...]]:
    return [one.ranking for one in lists]


def hits(lists: list[RankedList]) -> int:
    return sum(one.cache.hits for one in lists)


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_counting_model(tmp_path_factory.mktemp("bundles"), "file")


@pytest.fixture
def proxy(redis_server: RedisServer, redis_url: str) -> Iterator[Proxy]:
    assert redis_url
    with Proxy(redis_server.address) as between:
        yield between


@pytest.fixture
def asker(
    kafka: KafkaCluster,
    topics: Callable[..., Topics],
    tiny_model: Path,
    tmp_path: Path,
    proxy: Proxy,
    request: pytest.FixtureRequest,
) -> Iterator[Asker]:
    """Asks a worker with the Redis settings that the test chose, `SHORT` if it chose none."""
    names = topics()
    settings = settings_for(
        kafka.bootstrap_servers, names, tiny_model, redis_url=f"redis://{proxy.address}/0"
    )
    for name, value in getattr(request, "param", SHORT).items():
        settings[f"RERANKER_REDIS__{name}"] = value
    worker = WorkerProcess(tmp_path, "worker", settings).start()
    yield Asker(kafka, names, worker)
    worker.process.terminate()


def test_every_fault_gives_the_same_rankings_and_the_breaker_closes_again(
    asker: Asker, proxy: Proxy, redis_server: RedisServer
) -> None:
    right = rankings(asker.ask())
    await_condition(lambda: _recovers(asker, right), 240, lambda: "no hits without a fault")

    def reopen() -> None:
        proxy.cut()
        proxy.open()

    faults: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
        "refused": (proxy.refuse, proxy.open),
        "black hole": (proxy.black_hole, reopen),
        "stalled": (proxy.stall, proxy.open),
        "cut": (proxy.cut, lambda: None),
        "stopped": (redis_server.stop, redis_server.start),
        "frozen": (redis_server.pause, redis_server.resume),
    }
    for name, (begin, end) in faults.items():
        before = asker.failures
        begin()
        try:
            during = asker.ask()
        finally:
            end()
        assert rankings(during) == right, name
        assert {one.tier for one in during} == {"full"}, name
        if name != "cut":
            assert asker.failures > before, f"{name}: nothing was noticed"
        await_condition(
            lambda: _recovers(asker, right),
            240,
            lambda name=name: f"{name}: no hits again",  # type: ignore[misc]
        )


def _recovers(asker: Asker, right: list[tuple[RankedDocument, ...]]) -> bool:
    """The half-open breaker lets one call through; from then on scores are kept again."""
    lists = asker.ask()
    assert rankings(lists) == right
    return hits(lists) == 6 * QUESTIONS


@pytest.mark.parametrize("asker", [PATIENT], indirect=True)
def test_an_open_breaker_leaves_redis_alone(asker: Asker, proxy: Proxy) -> None:
    """Within the pause there are no further failures, however much is asked."""
    asker.ask()
    proxy.refuse()
    # Each batch of questions asks Redis twice.
    for _ in range(5):
        asker.ask()
    assert asker.failures == RedisSettings().failures


@pytest.mark.parametrize("asker", [PATIENT], indirect=True)
def test_garbage_and_a_flush(asker: Asker, redis_url: str) -> None:
    """Values that are no scores, or somebody else's, are misses."""
    right = rankings(asker.ask())
    with Redis.from_url(redis_url) as client:
        keys = list(client.scan_iter(b"kr:*"))
        assert len(keys) == 6 * QUESTIONS
        garbage = [b"", b"\x00" * 6, b"s" + b"\xff" * 5, b"x" * 100_000, b"[[]]", b"nan"]
        for number, key in enumerate(keys):
            if number % 7 == 6:
                client.delete(key)
                client.rpush(key, b"a list")
            else:
                client.set(key, garbage[number % 7])
        lists = asker.ask()
        assert rankings(lists) == right
        client.flushall()
        lists = asker.ask()
        assert rankings(lists) == right
        assert hits(lists) == 0


@contextmanager
def _server(answer: bytes) -> Iterator[int]:
    """Something that is no Redis: it answers every line with the same bytes."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            for _ in self.rfile:
                try:
                    self.wfile.write(answer)
                except OSError:
                    return

    class Server(ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"-ERR it is broken\r\n",
        b"-OOM command not allowed\r\n",
        b"-LOADING\r\n",
        b"\x00\xff\xfe",
        b"*99999999\r\n",
        b"$5\r\nhello\r\n",
        b"*1\r\n$-1\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_something_that_answers_wrongly(asker: Asker, proxy: Proxy, answer: bytes) -> None:
    right = rankings(asker.ask())
    with _server(answer) as port:
        proxy.cut()
        proxy.target = f"127.0.0.1:{port}"
        assert rankings(asker.ask()) == right
        assert rankings(asker.ask()) == right
    assert asker.worker.process.alive
