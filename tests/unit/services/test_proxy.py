"""Each way in which the proxy misbehaves, against an echo server."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.services.process import await_condition
from tests.services.proxy import Proxy

SILENCE_S = 0.2
PATIENCE_S = 120


class Echo(socketserver.StreamRequestHandler):
    """Sends back each line."""

    def handle(self) -> None:
        """Until the client leaves."""
        for line in self.rfile:
            self.wfile.write(line)


class EchoServer(socketserver.ThreadingTCPServer):
    """On a free loopback port."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A cut connection is what these tests are about."""


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with EchoServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        host, port = server.server_address[:2]
        with Proxy(f"{host!s}:{port}") as running:
            yield running
        server.shutdown()
        thread.join()


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE_S)


def ask(connection: socket.socket, line: bytes = b"hello\n") -> bytes:
    connection.sendall(line)
    return connection.recv(100)


def assert_silent(connection: socket.socket) -> None:
    connection.settimeout(SILENCE_S)
    with pytest.raises(TimeoutError):
        connection.recv(100)
    connection.settimeout(PATIENCE_S)


def test_open_forwards(proxy: Proxy) -> None:
    with connect(proxy) as one, connect(proxy) as two:
        assert ask(one, b"1\n") == b"1\n"
        assert ask(two, b"2\n") == b"2\n"


def test_the_client_leaving_is_noticed(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert ask(connection) == b"hello\n"
        assert proxy.connections == 1
    await_condition(lambda: proxy.connections == 0, PATIENCE_S, lambda: "the connection stays")


def test_refuse_cuts_and_refuses_until_open(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        ask(connection)
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.open()
    with connect(proxy) as connection:
        assert ask(connection) == b"hello\n"


def test_black_hole_swallows_for_good(proxy: Proxy) -> None:
    with connect(proxy) as old:
        ask(old)
        proxy.black_hole()
        with connect(proxy) as new:
            for connection in (old, new):
                connection.sendall(b"lost\n")
                assert_silent(connection)
            lost = len(b"lost\n") * 2
            await_condition(lambda: proxy.swallowed == lost, PATIENCE_S, lambda: "not swallowed")
            proxy.open()
            assert ask(old, b"found\n") == b"found\n"
            assert ask(new, b"found\n") == b"found\n"


def test_stall_delivers_when_it_ends(proxy: Proxy) -> None:
    with connect(proxy) as old:
        ask(old)
        proxy.stall()
        with connect(proxy) as new:
            for connection in (old, new):
                connection.sendall(b"late\n")
                assert_silent(connection)
            proxy.open()
            assert old.recv(100) == b"late\n"
            assert new.recv(100) == b"late\n"


def test_cut_resets_once(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        ask(connection)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    with connect(proxy) as connection:
        assert ask(connection) == b"hello\n"


def test_delay_is_added_in_each_direction(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        proxy.delay(100)
        began = time.monotonic()
        assert ask(connection) == b"hello\n"
        assert time.monotonic() - began >= 0.2


def test_a_target_that_is_gone_ends_the_connection(proxy: Proxy) -> None:
    proxy.target = "127.0.0.1:1"
    with connect(proxy) as connection:
        assert connection.recv(100) == b""
