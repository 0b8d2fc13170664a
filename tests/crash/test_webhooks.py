"""Webhooks of a killed service: each end of a task is delivered, always under the same id, and verifies."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import httpx2
import pytest
import standardwebhooks

from tests.server import run_server

pytestmark = [pytest.mark.crash, pytest.mark.timeout(280)]

ENV = {"TASKER_WEBHOOK_INSECURE": "on"}
KILLS, TASKS = 3, 40


class Receiver(ThreadingHTTPServer):
    """Keeps the headers and bodies that it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        self.told: list[tuple[dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def ids(self) -> dict[str, set[str]]:
        """Return the message ids by task."""
        found: dict[str, set[str]] = defaultdict(set)
        for headers, body in tuple(self.told):
            found[json.loads(body)["data"]["task_id"]].add(headers["webhook-id"])
        return found


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.told.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_events_before_and_after_kills_are_delivered(tmp_path: Path, receiver: Receiver) -> None:
    accepted: list[str] = []
    secret = ""
    for kill in range(KILLS):
        with run_server(tmp_path, env=ENV) as server, httpx2.Client(base_url=server.url) as client:
            if not secret:
                secret = client.post("/webhook", json={"url": receiver.url}).json()["secret"]
            for place in range(TASKS):
                own = {"webhook": {"url": f"{receiver.url}own", "secret": secret}} if kill == place == 1 else {}
                reply = client.post("/task", json={"type": "sum", "params": [place, 1], **own})
                assert reply.status_code == 202
                accepted.append(reply.json()["task_id"])
            sleep(random.uniform(0, 0.3))  # the moment is the point: no event stands for it
            server.kill()
    with run_server(tmp_path, env=ENV):
        deadline = monotonic() + 30
        while not set(accepted) <= receiver.ids().keys() and monotonic() < deadline:
            sleep(0.05)
    ids = receiver.ids()
    assert set(accepted) == ids.keys(), f"{len(set(accepted) - ids.keys())} ends were never told"
    assert {len(own) for own in ids.values()} == {1}, "an event was told under two ids"
    for headers, body in receiver.told:
        assert standardwebhooks.Webhook(secret).verify(body, headers)["type"] == "task.completed"
