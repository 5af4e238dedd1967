"""What the caches rely on a store for: the same tests in memory and on a real Redis."""

import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from pydantic import SecretStr
from redis import Redis

from tests.services.process import await_condition
from tests.services.proxy import Proxy
from tests.services.redis import RedisServer
from worker.settings import RedisSettings
from worker.store import (
    ENTRY_OVERHEAD_BYTES,
    TTL_JITTER,
    MemoryStore,
    RedisStore,
    Store,
    open_store,
)

WAIT_S = 120.0


@dataclass
class Opened:
    """A store, and how often it failed."""

    store: Store
    failures: list[int]


@dataclass
class Opener:
    """Opens stores that end with the test."""

    url: str
    opened: list[Opened] = field(default_factory=list)

    def __call__(self, url: str | None = None, **settings: int) -> Opened:
        failures: list[int] = []
        # Slow machines are not what these tests are about: those that are say a time-out.
        settings.setdefault("timeout_ms", 10_000)
        store = open_store(
            RedisSettings(url=SecretStr(url or self.url), **settings), lambda: failures.append(1)
        )
        self.opened.append(Opened(store, failures))
        return self.opened[-1]


@pytest.fixture
def redis_opener(redis_url: str) -> Iterator[Opener]:
    opener = Opener(redis_url)
    yield opener
    for each in opener.opened:
        each.store.close()


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
def opener(request: pytest.FixtureRequest) -> Opener:
    if request.param == "memory":
        return Opener("memory://")
    found: Opener = request.getfixturevalue("redis_opener")
    return found


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    with Proxy(redis_server.address) as running:
        yield running


def url_of(proxy: Proxy) -> str:
    return f"redis://{proxy.address}/0"


def works(store: Store) -> bool:
    store.set_many({b"probe": b"x"})
    return store.get_many([b"probe"]) == [b"x"]


def test_what_was_set_is_got_in_the_order_of_the_keys(opener: Opener) -> None:
    store = opener().store
    store.set_many({b"a": b"1", b"b": b"2"})
    assert store.get_many([b"b", b"x", b"a", b"b"]) == [b"2", None, b"1", b"2"]


@pytest.mark.parametrize("value", [b"", b"\x00", b"\xff" * 1_000, b"\r\n$-1\r\n"])
def test_any_bytes_come_back(opener: Opener, value: bytes) -> None:
    store = opener().store
    store.set_many({b"\x00\xff \r\n": value})
    assert store.get_many([b"\x00\xff \r\n"]) == [value]


def test_a_later_value_replaces_an_earlier_one(opener: Opener) -> None:
    store = opener().store
    store.set_many({b"a": b"1"})
    store.set_many({b"a": b"22"})
    assert store.get_many([b"a"]) == [b"22"]


def test_nothing_asked_and_nothing_set(opener: Opener) -> None:
    opened = opener()
    opened.store.set_many({})
    assert opened.store.get_many([]) == []
    assert opened.failures == []


def test_many_at_once(opener: Opener) -> None:
    store = opener().store
    items = {b"key-%d" % n: b"value-%d" % n for n in range(5_000)}
    store.set_many(items)
    assert store.get_many(list(items)) == list(items.values())


def test_values_are_forgotten_after_their_time(opener: Opener) -> None:
    store = opener(ttl_s=1).store

    def kept() -> bool:
        store.set_many({b"a": b"1"})
        return store.get_many([b"a"]) == [b"1"]

    await_condition(kept, WAIT_S, lambda: "it is never there")
    await_condition(lambda: store.get_many([b"a"]) == [None], WAIT_S, lambda: "it is still there")


def test_several_threads_at_once(opener: Opener) -> None:
    store = opener().store
    wrong: list[object] = []

    def work(name: int) -> None:
        for round_ in range(100):
            key, value = b"%d" % (name * 1_000 + round_), b"%d" % name
            store.set_many({key: value, b"shared": value})
            found, shared = store.get_many([key, b"shared"])
            if found != value or shared not in {b"0", b"1", b"2", b"3"}:
                wrong.append((found, shared))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# The one in memory


def test_the_least_recently_used_goes_first() -> None:
    store = MemoryStore(3 * (1_000 + ENTRY_OVERHEAD_BYTES), ttl_s=100)
    for key in (b"a", b"b", b"c"):
        store.set_many({key: b"x" * 1_000})
    store.get_many([b"a"])
    store.set_many({b"d": b"x" * 1_000})
    found = store.get_many([b"a", b"b", b"c", b"d"])
    assert [one is not None for one in found] == [True, False, True, True]


def test_memory_has_a_bound_however_much_is_stored() -> None:
    budget = 1_000_000
    store = MemoryStore(budget, ttl_s=100)
    tracemalloc.start()
    for number in range(20_000):
        store.set_many({b"kr:1:p:sha256:" + b"f" * 64 + b":%032d" % number: b"sixbyt"})
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.5 * budget < used < 1.25 * budget


def test_setting_the_same_keys_again_and_again_does_not_grow() -> None:
    store = MemoryStore(1_000_000, ttl_s=100)
    tracemalloc.start()
    for _ in range(300):
        store.set_many({b"%d" % number: b"x" * 10 for number in range(100)})
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 500_000


def test_a_value_larger_than_the_budget_is_not_kept_and_evicts_nothing() -> None:
    store = MemoryStore(budget_bytes=2_000, ttl_s=100)
    store.set_many({b"a": b"1"})
    store.set_many({b"b": b"x" * 5_000})
    assert store.get_many([b"a", b"b"]) == [b"1", None]


# The one on Redis


def test_times_to_live_have_jitter_within_bounds(redis_opener: Opener) -> None:
    store = redis_opener(ttl_s=1_000).store
    store.set_many({b"%d" % n: b"x" for n in range(200)})
    with Redis.from_url(redis_opener.url) as client:
        lives_ms = [client.pttl(b"%d" % n) for n in range(200)]
    assert all((1 - TTL_JITTER) * 990_000 < life <= 1_000_000 for life in lives_ms)
    assert max(lives_ms) - min(lives_ms) > 50_000


def test_values_of_another_type_are_misses(redis_opener: Opener) -> None:
    opened = redis_opener()
    with Redis.from_url(redis_opener.url) as client:
        client.rpush("list", "x")
        client.hset("hash", "x", "y")
        client.sadd("set", "x")
    opened.store.set_many({b"a": b"1"})
    found = opened.store.get_many([b"list", b"a", b"hash", b"set"])
    assert found == [None, b"1", None, None]
    assert opened.failures == []
    opened.store.set_many({b"list": b"2"})
    assert opened.store.get_many([b"list"]) == [b"2"]


def test_a_redis_that_is_full_takes_nothing_and_gives_what_it_has(redis_opener: Opener) -> None:
    opened = redis_opener(retry_after_ms=1)
    opened.store.set_many({b"a": b"1"})
    with Redis.from_url(redis_opener.url) as client:
        client.config_set("maxmemory", "1")
        try:
            opened.store.set_many({b"b": b"2"})
        finally:
            client.config_set("maxmemory", "0")
    assert len(opened.failures) == 1
    await_condition(
        lambda: opened.store.get_many([b"a", b"b"]) == [b"1", None], WAIT_S, lambda: "a is gone"
    )


Fault = Callable[[Proxy], None]
# For tests that wait for it, and long enough for a slow machine to answer within it.
SHORT_MS = 500
LONGER_MS = 2_000
faults = pytest.mark.parametrize("fault", [Proxy.refuse, Proxy.black_hole, Proxy.stall])


@faults
def test_redis_away_is_a_miss_and_not_an_error(
    redis_opener: Opener, proxy: Proxy, fault: Fault
) -> None:
    opened = redis_opener(url_of(proxy), timeout_ms=SHORT_MS, retry_after_ms=600_000, failures=2)
    await_condition(lambda: works(opened.store), WAIT_S, lambda: "Redis is not used")
    before = len(opened.failures)
    fault(proxy)
    for _ in range(3):
        assert opened.store.get_many([b"a", b"b"]) == [None, None]
        opened.store.set_many({b"a": b"2"})
    assert len(opened.failures) == before + 2, "after these failures Redis is left alone"


def test_one_slow_answer_does_not_cost_the_cache(redis_opener: Opener, proxy: Proxy) -> None:
    """Only failures in a row open the breaker: every answer in between begins a new row."""
    opened = redis_opener(url_of(proxy), timeout_ms=LONGER_MS, retry_after_ms=600_000)
    failures = RedisSettings().failures
    assert works(opened.store)
    for _ in range(2):
        for _ in range(failures - 1):
            proxy.stall()
            assert opened.store.get_many([b"a"]) == [None]
            proxy.cut()
            proxy.open()
        # The breaker is closed, and Redis asked again at once.
        assert works(opened.store)
    assert len(opened.failures) == 2 * (failures - 1) > failures


@faults
def test_redis_away_at_start_is_no_reason_not_to(
    redis_opener: Opener, proxy: Proxy, fault: Fault
) -> None:
    fault(proxy)
    opened = redis_opener(url_of(proxy), timeout_ms=SHORT_MS, retry_after_ms=50)
    assert opened.failures == [1]
    assert opened.store.get_many([b"a"]) == [None]
    proxy.open()
    await_condition(lambda: works(opened.store), WAIT_S, lambda: "Redis is not used again")


@faults
def test_redis_is_used_again_when_it_is_back(
    redis_opener: Opener, proxy: Proxy, fault: Fault
) -> None:
    opened = redis_opener(url_of(proxy), timeout_ms=SHORT_MS, retry_after_ms=50)
    await_condition(lambda: works(opened.store), WAIT_S, lambda: "Redis is not used")
    fault(proxy)
    assert opened.store.get_many([b"a"]) == [None]
    proxy.open()
    await_condition(lambda: works(opened.store), WAIT_S, lambda: "Redis is not used again")


def test_while_it_is_away_redis_is_tried_seldom(redis_opener: Opener, proxy: Proxy) -> None:
    opened = redis_opener(url_of(proxy), timeout_ms=50, retry_after_ms=600_000)
    proxy.black_hole()
    for _ in range(200):
        assert opened.store.get_many([b"a"]) == [None]
        opened.store.set_many({b"a": b"1"})
    assert len(opened.failures) == RedisSettings().failures


def test_a_half_open_breaker_that_fails_opens_again(redis_opener: Opener, proxy: Proxy) -> None:
    opened = redis_opener(url_of(proxy), timeout_ms=50, retry_after_ms=20)
    proxy.refuse()
    await_condition(
        lambda: opened.store.get_many([b"a"]) == [None] and len(opened.failures) >= 3,
        WAIT_S,
        lambda: "it was not tried again",
    )
    proxy.open()
    await_condition(lambda: works(opened.store), WAIT_S, lambda: "Redis is not used again")


def test_answers_never_belong_to_another_question(redis_opener: Opener, proxy: Proxy) -> None:
    """After a time-out the late answer is still on the wire: it must not answer the next call."""
    opened = redis_opener(url_of(proxy), timeout_ms=SHORT_MS, retry_after_ms=1)
    store = opened.store
    await_condition(lambda: works(store), WAIT_S, lambda: "Redis is not used")
    store.set_many({b"a": b"1", b"b": b"2"})
    proxy.stall()
    assert store.get_many([b"a"]) == [None]
    proxy.open()
    for _ in range(50):
        (found,) = store.get_many([b"b"])
        assert found in {None, b"2"}


def test_a_restart_forgets_and_goes_on(redis_server: RedisServer, redis_opener: Opener) -> None:
    opened = redis_opener(retry_after_ms=20)
    assert works(opened.store)
    redis_server.restart()
    await_condition(
        lambda: opened.store.get_many([b"probe"]) == [None] and works(opened.store),
        WAIT_S,
        lambda: "Redis is not used again",
    )


def test_something_else_that_listens_is_a_miss(redis_opener: Opener) -> None:
    import socketserver  # noqa: PLC0415

    class Chatter(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while self.request.recv(1_000):
                self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Chatter) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        opened = redis_opener(f"redis://127.0.0.1:{server.server_address[1]}/0", retry_after_ms=1)
        for _ in range(5):
            assert opened.store.get_many([b"a"]) == [None]
            opened.store.set_many({b"a": b"1"})
        assert opened.failures
        server.shutdown()
        thread.join()


def test_a_failure_takes_no_longer_than_the_time_out_allows(
    redis_opener: Opener, proxy: Proxy
) -> None:
    """One time-out: the client's own retries would each wait for another, and pause in between."""
    opened = redis_opener(url_of(proxy), timeout_ms=LONGER_MS, retry_after_ms=600_000)
    assert opened.failures == []
    proxy.black_hole()
    before = proxy.accepted
    opened.store.get_many([b"a"])
    assert opened.failures == [1]
    assert proxy.accepted == before, "it was tried again, over another connection"
    assert isinstance(opened.store, RedisStore)
