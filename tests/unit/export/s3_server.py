"""A store that speaks as much of S3 as bundles need: objects by path, listed by prefix."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

BUCKET = "bundles"


@dataclass
class Store:
    """Where it listens, what it holds (`/bucket/key` to bytes), and who asked for what."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    store: Store
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.store.objects[self._path()] = content
        self._answer(HTTPStatus.OK, b"", {"ETag": _tag(content)})

    def do_GET(self) -> None:
        content = self.store.objects.get(self._path())
        if "list-type" in self.path:
            self._answer(HTTPStatus.OK, self._listing())
        elif content is None:
            self._answer(HTTPStatus.NOT_FOUND, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self._send(content)

    do_HEAD = do_GET  # noqa: N815

    def do_DELETE(self) -> None:
        self.store.objects.pop(self._path(), None)
        self._answer(HTTPStatus.NO_CONTENT, b"")

    def _path(self) -> str:
        path = unquote(urlsplit(self.path).path)
        self.store.requests.append(f"{self.command} {path}")
        return path

    def _send(self, content: bytes) -> None:
        headers = {"ETag": _tag(content), "Last-Modified": formatdate(0, usegmt=True)}
        asked = self.headers.get("Range")
        if asked is None:
            return self._answer(HTTPStatus.OK, content, headers)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        end = min(int(last or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{end}/{len(content)}"
        part = content[int(first) : end + 1]
        return self._answer(HTTPStatus.PARTIAL_CONTENT, part, headers)

    def _listing(self) -> bytes:
        prefix = parse_qs(urlsplit(self.path).query).get("prefix", [""])[0]
        rows = "".join(
            f"<Contents><Key>{path.removeprefix(f'/{BUCKET}/')}</Key><Size>{len(content)}"
            "</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for path, content in self.store.objects.items()
            if path.startswith(f"/{BUCKET}/{prefix}")
        )
        count = rows.count("<Key>")
        return f"<ListBucketResult><KeyCount>{count}</KeyCount>{rows}</ListBucketResult>".encode()

    def _answer(
        self, status: HTTPStatus, content: bytes, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def s3_server() -> Iterator[Store]:
    """Serve an empty bucket on a free port of this machine."""
    store = Store()
    handler = type("Handler", (_Handler,), {"store": store})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        store.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield store
        server.shutdown()
        thread.join()


def _tag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
