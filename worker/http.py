"""`/livez`, `/readyz` and `/metrics`, and nothing else.

Alive means that the loop polls, and never that a dependency is well: restarting this process would
not heal the broker. Ready means that the bundles are loaded and the loop has polled.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from worker.clock import Clock
from worker.errors import StartError
from worker.settings import HttpSettings

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class Health:
    """What the loop tells about itself. Written by the loop, read by the HTTP threads."""

    def __init__(self, clock: Clock, stale_after_s: float) -> None:
        self._clock = clock
        self._stale_after_s = stale_after_s
        self._polled_s: float | None = None
        self._draining = False

    def polled(self) -> None:
        """Note that the loop has polled."""
        self._polled_s = self._clock.monotonic()

    def draining(self) -> None:
        """Note that the worker is on its way out."""
        self._draining = True

    @property
    def alive(self) -> bool:
        """Whether the loop polls, or has not begun to."""
        return (
            self._polled_s is None or self._clock.monotonic() - self._polled_s < self._stale_after_s
        )

    @property
    def ready(self) -> bool:
        """Whether work is being taken."""
        return self._polled_s is not None and self.alive and not self._draining


@dataclass(frozen=True)
class App:
    """The WSGI application of the three paths."""

    health: Health
    registry: CollectorRegistry

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        status, kind, body = self._answer(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, method: str, path: str) -> tuple[str, str, bytes]:
        if method not in ("GET", "HEAD"):
            return "405 Method Not Allowed", "text/plain", b"only GET\n"
        if path == "/metrics":
            return "200 OK", CONTENT_TYPE_LATEST, generate_latest(self.registry)
        if path == "/livez":
            return _check(self.health.alive)
        if path == "/readyz":
            return _check(self.health.ready)
        return "404 Not Found", "text/plain", b"only /livez, /readyz and /metrics\n"


def serve(app: App, settings: HttpSettings) -> "WSGIServer":
    """Serve on a daemon thread; raises StartError when the port can't be had."""
    try:
        server = make_server(
            settings.host, settings.port, app, server_class=_Server, handler_class=_Quiet
        )
    except OSError as error:
        raise StartError(
            f"http.port (RERANKER_HTTP__PORT) {settings.host}:{settings.port}: {error.strerror}: "
            "set another port"
        ) from None
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server


def _check(good: bool) -> tuple[str, str, bytes]:
    return (
        ("200 OK" if good else "503 Service Unavailable"),
        "text/plain",
        (b"ok\n" if good else b"no\n"),
    )


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 10  # A client that sends nothing does not keep a thread.

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Probes and scrapes come every few seconds; nobody reads of each."""
