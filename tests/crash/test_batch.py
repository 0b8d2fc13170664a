"""A batch whose service is killed in the middle: answered tasks are stored, and repeating it stores the rest."""

from __future__ import annotations

import http.client
import json
from contextlib import closing, suppress
from pathlib import Path

import httpx2
import pytest

from tests.server import run_server

pytestmark = pytest.mark.crash
COUNT = 20_000
BODY = b"".join(b'{"type":"sum","params":[%d,1],"delay":3600}\n' % number for number in range(COUNT))
HEADERS = {"content-type": "application/jsonl", "idempotency-key": "the-batch"}


@pytest.mark.long
def test_a_batch_outlives_the_service(tmp_path: Path) -> None:
    with run_server(tmp_path) as server:
        answered = _answers_until_killed(server.port, kill=server.kill, after=3000)
    assert 3000 <= len(answered) < COUNT, "it was killed too late"
    with run_server(tmp_path) as server, httpx2.Client(base_url=server.url, timeout=60) as client:
        reply = client.post("/batch", content=BODY, headers=HEADERS)
        *items, summary = [json.loads(line) for line in reply.text.splitlines()]
        assert summary == {"accepted": COUNT, "refused": 0}
        assert [item["task_id"] for item in items[: len(answered)]] == answered
        replayed = [item.get("replayed", False) for item in items]
        assert len(answered) <= sum(replayed) < COUNT
        assert replayed == sorted(replayed, reverse=True), "chunks are stored in order"
        assert sum(queue["scheduled"] for queue in client.get("/queue").json()["items"]) == COUNT


def _answers_until_killed(port: int, kill: object, after: int) -> list[str]:
    """Send the batch, kill the service after this many answers; return the ids in all answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/batch", body=BODY, headers=HEADERS)
    text, killed = b"", False
    with closing(connection), connection.getresponse() as reply, suppress(ConnectionError, http.client.HTTPException):
        while part := reply.read1(4096):
            text += part
            if not killed and text.count(b"\n") >= after:
                kill()  # type: ignore[operator]
                killed = True
    whole, _, _ = text.rpartition(b"\n")
    return [json.loads(line)["task_id"] for line in whole.splitlines()]
