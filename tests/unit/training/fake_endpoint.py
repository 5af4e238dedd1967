"""A chat endpoint on a loopback port that grades by a rule, and fails when it is told to."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Any]  # status, body: JSON or text


def completion(content: str, tokens: int = 10) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content}}], "usage": {"total_tokens": tokens}}


def by_words(query: str, document: str) -> Reply:
    """Grade 3 for a document that has all words of the query, and 0 for one that has none."""
    words = query.split()
    share = sum(word in document.split() for word in words) / len(words)
    return 200, completion(json.dumps({"grade": round(share * 3)}))


class Endpoint:
    """What was asked, and how it answers. `script` replies come first, one a request."""

    def __init__(self, rule: Callable[[str, str], Reply]) -> None:
        self.rule = rule
        self.script: list[Reply] = []
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.lock = threading.Lock()
        self.url = ""

    def reply(self, body: dict[str, Any], key: str | None) -> Reply:
        with self.lock:
            self.requests.append(body)
            self.keys.append(key)
            if self.script:
                return self.script.pop(0)
        pair = json.loads(body["messages"][-1]["content"])
        return self.rule(pair["query"], pair["document"])


@contextmanager
def endpoint(rule: Callable[[str, str], Reply] = by_words) -> Iterator[Endpoint]:
    state = Endpoint(rule)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            reply: Any
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self.path != "/v1/chat/completions":
                status, reply = 404, ""
            else:
                status, reply = state.reply(body, self.headers["authorization"])
            text = reply if isinstance(reply, str) else json.dumps(reply)
            data = text.encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
