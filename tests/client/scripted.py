"""A scripted service on loopback, which records its requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple

TASK_ID = "01a20cbf-4de7-7f49-82b5-e8e26ef64288"


class Reply(NamedTuple):
    """A reply; status 0 closes the connection without one."""

    status: int
    body: Any = None
    headers: dict[str, str] = {}


class Asked(NamedTuple):
    """A recorded request."""

    method: str
    path: str
    headers: Message
    body: Any


@dataclass
class Script:
    """The remaining replies, of which the last is repeated, and the recorded requests."""

    url: str
    replies: list[Reply]
    asked: list[Asked] = field(default_factory=list)

    def next(self) -> Reply:
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


def task(status: str = "completed", **more: Any) -> dict[str, Any]:
    made = {"task_id": TASK_ID, "type": "sum", "status": status, "created_at": "2026-01-02T03:04:05Z"}
    return {**made, "unknown_to_this_client": 1, **more}


def problem(name: str, status: int, detail: str = "no", **more: Any) -> dict[str, Any]:
    return {"type": f"/problems/{name}", "title": "Title", "status": status, "detail": detail, **more}


@contextmanager
def play(*replies: Reply) -> Iterator[Script]:
    """Serve the replies, one for each request."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(size)
            is_json = self.headers.get("Content-Type") == "application/json"
            body: Any = json.loads(text) if is_json else text or None
            script.asked.append(Asked(self.command, self.path, self.headers, body))
            reply = script.next()
            if reply.status:
                self.send(reply)
            self.close_connection = True

        def send(self, reply: Reply) -> None:
            content = reply.body.encode() if isinstance(reply.body, str) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(content)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script = Script(f"http://127.0.0.1:{server.server_port}", list(replies))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
