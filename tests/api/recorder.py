"""A service that knows nothing: it records what it is asked, and answers 404, or what a test gives it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Recorder:
    """asked: method and path, without the query, of each request. replies: bodies of 200s by method and path."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    replies: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def recorder() -> Iterator[Recorder]:
    """Run a Recorder on a port of its own."""
    found = Recorder()

    class Handler(BaseHTTPRequestHandler):
        def do(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            asked = f"{self.command} {self.path.partition('?')[0]}"
            found.asked.append(asked)
            reply = found.replies.get(asked)
            body = json.dumps({"type": "/problems/not-found", "detail": "nothing"} if reply is None else reply).encode()
            self.send_response(404 if reply is None else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        found.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()
