"""A server with the two interfaces of `bench.peers_servers`: a text's score is its length.

Takes `--port`; all other arguments are ignored. Results come shortest text first, so that their
order is not that of the request. A text `broken` gives status 500.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Answers /health and /rerank."""

    def do_GET(self) -> None:
        """Say that all is well."""
        self._answer(200, {})

    def do_POST(self) -> None:
        """Score texts."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        texts = request.get("texts", request.get("documents"))
        if "broken" in texts:
            self._answer(500, {})
            return
        name = "score" if "texts" in request else "relevance_score"
        rows = [{"index": place, name: float(len(text))} for place, text in enumerate(texts)]
        rows.sort(key=lambda row: float(row[name]))
        self._answer(200, rows if "texts" in request else {"results": rows})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def _answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    port = int(sys.argv[sys.argv.index("--port") + 1])
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
