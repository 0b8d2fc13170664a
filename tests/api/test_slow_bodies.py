"""Bodies that trickle, stop or break, for every operation that takes one; each is logged."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs

from tasker.api import app, lines
from tasker.api.bodies import SLOWEST, Allowance, BodyReader
from tasker.api.lines import Pieces
from tasker.api.operation import Operation
from tests.api.conftest import MakeRig, Rig
from tests.api.test_batch import GOOD, Wire
from tests.api.test_scopes import operations

WITHIN = 0.05
"""Seconds for a body, in these tests."""
JSON, LINES = "application/json", "application/jsonl"


@pytest.fixture
async def rig(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(app, "BodyReader", partial(BodyReader, within=WITHIN))
    monkeypatch.setattr(lines.Pieces.__init__, "__kwdefaults__", {"within": WITHIN})
    return await make_rig()


def with_bodies(rig: Rig) -> list[tuple[Operation, str]]:
    """Return every operation that takes a body, with each media type of it."""
    found = [(operation, JSON) for operation in operations(rig) if operation.body is not None]
    return [*found, *((operation, LINES) for operation, _ in found if operation.body == "batch")]


async def make_all(rig: Rig) -> dict[str, str]:
    """Make what the paths of the operations name; return the value of each path parameter."""
    task = {"type": "sum", "params": [1, 2]}
    schedule = await rig.client.post("/schedule", json={"name": "hourly", "cron": "0 * * * *", "task": task})
    webhook = await rig.client.post("/webhook", json={"url": "https://hooks.example.com/in"})
    return {
        "{task_id}": await rig.submit(), "{schedule_id}": schedule.headers["location"].split("/")[2],
        "{webhook_id}": webhook.headers["location"].split("/")[2], "{name}": "sum",
    }  # fmt: skip


class Exchange:
    """One request to an operation, its body given by `receive`, and its reply."""

    def __init__(self, rig: Rig, operation: Operation, media: str, parts: dict[str, str]) -> None:
        self._app = rig.app
        path = "/".join(parts.get(part, part) for part in operation.path.split("/"))
        headers = {"host": "localhost:5000", "content-type": media, "transfer-encoding": "chunked"}
        self.scope = {
            "type": "http", "method": operation.method, "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip
        self.status = 0
        self.headers: dict[bytes, bytes] = {}

    async def send(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        self.headers |= dict(message.get("headers", ()))

    async def with_body(self, receive: Any) -> None:
        async with asyncio.timeout(30):  # far more than WITHIN: what never ends is found
            await self._app(self.scope, receive, self.send)


async def trickle() -> dict[str, Any]:
    """Send a blank, which JSON allows, every tenth of the longest allowed pause."""
    await asyncio.sleep(WITHIN / 10)
    return {"type": "http.request", "body": b" ", "more_body": True}


async def silence() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def break_off() -> dict[str, Any]:
    """Receive what the server reports for a disconnected client, and for broken chunks."""
    return {"type": "http.disconnect"}


@pytest.mark.parametrize(
    ("receive", "expected"), [(trickle, 408), (silence, 408), (break_off, 400)], ids=["trickle", "silence", "break_off"]
)
async def test_no_operation_waits_for_a_body_for_ever(rig: Rig, receive: Any, expected: int) -> None:
    parts = await make_all(rig)
    for operation, media in with_bodies(rig):
        exchange = Exchange(rig, operation, media, parts)
        with capture_logs() as logs:
            await exchange.with_body(receive)
        assert (exchange.status, operation.name, media) == (expected, operation.name, media)
        assert exchange.headers[b"content-type"] == b"application/problem+json"
        assert exchange.headers[b"connection"] == b"close"
        [line] = [line for line in logs if line["event"] == "request.body_not_read"]
        assert (line["operation"], line["method"]) == (operation.name, operation.method)
        assert line["request_id"].encode() == exchange.headers[b"request-id"]
        assert line["reason"]


def test_there_are_operations_to_walk(rig: Rig) -> None:
    assert len(with_bodies(rig)) > 10
    assert {media for operation, media in with_bodies(rig) if operation.name == "submit_batch"} == {JSON, LINES}


async def test_a_trickle_of_lines_ends_after_the_first_answers(rig: Rig) -> None:
    """A byte now and then keeps a batch open for no longer than one allowed pause."""
    wire = Wire(rig)
    wire.write(GOOD + b"\n")

    async def feed() -> None:
        while True:
            wire.write(b" ")
            await asyncio.sleep(WITHIN / 10)

    with capture_logs() as logs:  # before the request is taken up
        feeding = asyncio.create_task(feed())
        *_, summary = await wire.read(2)
        await wire.request
    feeding.cancel()
    assert (summary["accepted"], summary["problem"]["type"]) == (1, "/problems/request-timeout")
    assert [line["event"] for line in logs if line["event"].startswith("request")] == ["request.body_not_read"]


def test_an_allowance_is_used_up_by_waiting_and_earned_back_by_bytes() -> None:
    allowance = Allowance(30)
    allowance.came(10_000_000)
    assert allowance.left == 30, "what came early does not buy a longer pause"
    for _ in range(100):
        allowance.waited(1)
        allowance.came(SLOWEST)
    assert allowance.left == 30, "just fast enough"
    for _ in range(59):
        allowance.waited(0.5)
        allowance.came(1)
    assert allowance.left > 0
    for _ in range(2):
        allowance.waited(0.5)
        allowance.came(1)
    assert allowance.left < 0, "a byte each half second"
    assert allowance.used_up().kind.status == 408


async def test_time_that_the_service_takes_does_not_count() -> None:
    """Storing between two pieces does not count; only waiting for more does."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x", "more_body": True}

    source = Pieces(receive, within=30, stopping=lambda: False)
    assert await source.next_in_time() == b"x"
    left = source.allowance.left
    await asyncio.sleep(WITHIN)
    assert source.allowance.left == left
    assert await source.next(WITHIN) == b"x"
    assert await source.next(0) is None
    source.close()


async def test_a_long_line_in_small_pieces_is_whole_at_the_end(make_rig: MakeRig) -> None:
    """Its parts are not copied with each new piece."""
    rig = await make_rig()
    text = b'{"type":"reverse","params":["%b"]}\n' % (b"ab" * 5_000)
    wire = Wire(rig)
    for start in range(0, len(text), 7):
        wire.write(text[start : start + 7])
    wire.write(GOOD, more=False)
    items = await wire.read(3)
    assert [item.get("status") for item in items] == [202, 202, None]
