"""Three paths and nothing else."""

import socket
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
from prometheus_client import CollectorRegistry, Gauge

from tests.fakes.clock import FakeClock
from worker.errors import StartError
from worker.http import App, Health, serve
from worker.settings import HttpSettings

STALE_AFTER_S = 60.0


class Server:
    """A server on a free port, and what it shows."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        Gauge("answer", "To everything", registry=registry).set(42)
        self.clock = FakeClock()
        self.health = Health(self.clock, STALE_AFTER_S)
        self.app = App(self.health, registry)
        self.server = serve(self.app, HttpSettings(host="127.0.0.1", port=0))
        self.port = self.server.server_address[1]

    def forget(self) -> None:
        """As if it had just started, without the half second that stopping one takes."""
        self.health = Health(self.clock, STALE_AFTER_S)
        object.__setattr__(self.app, "health", self.health)

    def ask(self, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def server(running: Server) -> Server:
    running.forget()
    return running


def test_alive_before_the_first_poll_and_not_ready(server: Server) -> None:
    server.clock.advance(10 * STALE_AFTER_S)
    assert server.ask("/livez")[0] == 200
    assert server.ask("/readyz")[0] == 503


def test_ready_after_the_first_poll(server: Server) -> None:
    server.health.polled()
    assert server.ask("/livez") == (200, b"ok\n")
    assert server.ask("/readyz") == (200, b"ok\n")


def test_neither_when_the_loop_stands_still(server: Server) -> None:
    server.health.polled()
    server.clock.advance(STALE_AFTER_S - 1)
    assert server.ask("/livez")[0] == 200
    server.clock.advance(2)
    assert server.ask("/livez")[0] == 503
    assert server.ask("/readyz")[0] == 503
    server.health.polled()
    assert server.ask("/livez")[0] == 200


def test_draining_is_alive_and_not_ready(server: Server) -> None:
    server.health.polled()
    server.health.draining()
    assert server.ask("/livez")[0] == 200
    assert server.ask("/readyz")[0] == 503


def test_metrics(server: Server) -> None:
    status, body = server.ask("/metrics")
    assert status == 200
    assert b"answer 42.0" in body


@pytest.mark.parametrize(
    "path", ["/", "/metrics/", "/livez/x", "/LIVEZ", "/..", "/metrics%00", "/debug"]
)
def test_other_paths_do_not_exist(server: Server, path: str) -> None:
    assert server.ask(path)[0] == 404


def test_a_query_string_does_not_matter(server: Server) -> None:
    assert server.ask("/livez?verbose=1")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
def test_other_methods_are_refused(server: Server, method: str) -> None:
    assert server.ask("/metrics", method, b"x")[0] == 405


def test_head_has_no_body(server: Server) -> None:
    assert server.ask("/livez", "HEAD") == (200, b"")


def test_a_silent_client_does_not_hold_up_others(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as silent:
        silent.sendall(b"GET /livez HT")
        assert server.ask("/livez")[0] == 200


def test_a_port_in_use_is_one_line(server: Server) -> None:
    with pytest.raises(StartError) as caught:
        serve(
            App(server.health, CollectorRegistry()),
            HttpSettings(host="127.0.0.1", port=server.port),
        )
    assert str(server.port) in str(caught.value)
    assert "RERANKER_HTTP__PORT" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_host_that_is_not_ours_is_one_line() -> None:
    app = App(Health(FakeClock(), 1.0), CollectorRegistry())
    with pytest.raises(StartError, match="RERANKER_HTTP__PORT"):
        serve(app, HttpSettings(host="192.0.2.1", port=0))
