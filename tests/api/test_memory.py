"""The memory that stalled clients cost: every list, stream and wait, with many clients that do not read."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import process_time
from typing import Any, NamedTuple

import msgspec
import pytest

from tasker.api import buffers
from tasker.api.app import make_operations
from tasker.api.operation import Operation
from tasker.metrics import Metrics
from tasker.requests.schedules import MAX_TASK
from tasker.rules.lifecycle import Succeeded
from tasker.service.feed import _WINDOW_SIZE
from tests.api.conftest import MakeRig, Rig
from tests.marks import usually

MIB = 1 << 20
LARGE = MIB - 100
TASKS = 16
CLIENTS = 20
BUFFERED = 4 * MIB
EACH = 150_000
"""Limit of the uncounted bytes that a stalled client may cost."""
MOST = BUFFERED + CLIENTS * EACH + 4 * MIB
"""Far below CLIENTS large replies, or bodies."""
WITHIN = 60.0
"""Seconds in which the service must have done all that it can do for clients that do not read: it may be slow."""


class Request(NamedTuple):
    path: str
    method: str = "GET"
    body: bytes = b""
    accept: str = "*/*"
    media: str = "application/json"


Case = Callable[[Rig], Awaitable[Request]]


async def large_tasks(rig: Rig) -> Request:
    """Request a page of tasks with large results."""
    for _ in range(TASKS):
        await rig.submit()
        await rig.finish(Succeeded(b'"%b"' % (b"x" * LARGE)))
    return Request("/task?limit=500")


async def large_schedules(rig: Rig) -> Request:
    for number in range(2 * MIB // MAX_TASK):
        task = {"type": "reverse", "params": ["x" * (MAX_TASK - 1000)]}
        body = {"name": f"s{number}", "interval": 3600, "task": task}
        assert (await rig.client.post("/schedule", json=body)).status_code == 201
    return Request("/schedule?limit=500")


async def large_events(rig: Rig) -> Request:
    await large_tasks(rig)
    return Request("/events?after=oldest")


async def large_log(rig: Rig) -> Request:
    """Request the events of a task with a large result, which is in its last event."""
    page = await large_tasks(rig)
    tasks = (await rig.client.get(page.path)).json()["items"]
    return Request(f"/task/{tasks[0]['task_id']}/events")


def stream_of(path: str, method: str = "POST", wrap: bool = True) -> Case:
    """Return a case: a submission with large params, answered by its events."""

    async def case(rig: Rig) -> Request:
        task_id = await rig.submit("reverse", ["x"])
        params: Any = ["x" * (LARGE - 1000)]
        body = msgspec.json.encode({"type": "reverse", "params": params} if wrap else params)
        return Request(path.replace("{task_id}", task_id), method, body, "text/event-stream")

    return case


async def replayed(rig: Rig) -> Request:
    task_id = await rig.submit("reverse", ["x" * (LARGE - 1000)])
    return Request(f"/task/{task_id}/replay", "POST", b"{}", "text/event-stream")


async def batch(rig: Rig) -> Request:
    """Request a batch whose replies are much larger than its body."""
    lines = b'{"type": "nothing"}\n' * 2_000
    return Request("/batch", "POST", lines, "application/jsonl", "application/jsonl")


LISTS: dict[str, Case | str] = {
    "list_tasks": large_tasks,
    "list_schedules": large_schedules,
    "follow_all": large_events,
    "follow_task": large_log,
    "submit_task": stream_of("/task"),
    "submit_params": stream_of("/type/reverse/task", wrap=False),
    "put_task": stream_of("/task/0198e000-0000-7000-8000-000000000000", "PUT"),
    "replay_task": replayed,
    "submit_batch": batch,
    "list_webhooks": "500 at the most, of some 3 KB each",
    "list_deliveries": "500 at the most, of some 1 KB each",
    "list_audit": "500 at the most, of some 1 KB each",
    "list_bulk": "500 at the most, of some 1 KB each",
    "list_ticks": "some hundred times",
    "list_keys": "an admin's, of some 300 bytes each",
    "list_types": "what the installation defines",
    "list_workers": "one for each process",
    "list_queues": "their number has a limit of its own",
    "list_groups": "500 at the most, of some 300 bytes each",
    "list_failures": "500 at the most, of some 1 KB each",
    "list_questions": "100 at the most, of some 2 KB each",
    "read_log": "some 256 KB",
    "get_usage": "a limited number of rows of figures",
    "get_stats": "100 groups at the most, with a limited number of steps",
}
"""What is large in a list or stream, or why none of it can be large."""


def lists_and_streams(rig: Rig) -> dict[str, Operation]:
    operations = make_operations(rig.service, Metrics(), rig.clock, rig.settings)
    return {one.name: one for one in operations if one.streams or _is_list(one)}


def _is_list(operation: Operation) -> bool:
    bodies = [answer.body for answer in operation.answers.values()]
    return any("items" in getattr(body, "__struct_encode_fields__", ()) for body in bodies)


async def test_every_list_and_stream_has_a_case(rig: Rig) -> None:
    """A new one must say what is large in it."""
    assert set(lists_and_streams(rig)) == set(LISTS)


STALLED = [name for name, case in LISTS.items() if not isinstance(case, str)]


@pytest.mark.parametrize("name", usually(STALLED, "submit_task", "list_tasks", "follow_task", "follow_all"))
async def test_stalled_clients_cost_little(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(buffers, "PATIENCE", 0.0)
    rig = await make_rig(max_buffered=BUFFERED)
    case = LISTS[name]
    assert not isinstance(case, str)
    request = await case(rig)
    await check_cost(rig, request, MOST + (2 * MIB + _WINDOW_SIZE if name == "follow_all" else 0))


WAITS: dict[str, Case] = {
    "submit": stream_of("/task?wait=60"),
    "submit params": stream_of("/type/reverse/task?wait=60", wrap=False),
    "put": stream_of("/task/0198e000-0000-7000-8000-000000000000?wait=60", "PUT"),
}


async def read_and_wait(rig: Rig) -> Request:
    return Request(f"/task/{await rig.submit('reverse', ['x' * (LARGE - 1000)])}?wait=60")


async def read_result_and_wait(rig: Rig) -> Request:
    return Request(f"/task/{await rig.submit('reverse', ['x' * (LARGE - 1000)])}/result?wait=60")


async def replay_and_wait(rig: Rig) -> Request:
    return (await replayed(rig))._replace(path=f"/task/{await rig.submit('reverse', ['x' * 900_000])}/replay?wait=60")


WAITS |= {"get": read_and_wait, "result": read_result_and_wait, "replay": replay_and_wait}


@pytest.mark.parametrize("name", usually(WAITS, "submit", "get"))
async def test_clients_that_wait_hold_neither_body_nor_task(make_rig: MakeRig, name: str) -> None:
    rig = await make_rig()
    request = (await WAITS[name](rig))._replace(accept="*/*")
    await check_cost(rig, request, CLIENTS * EACH + 4 * MIB)


async def test_bodies_that_do_not_end_are_bounded_in_all(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "PATIENCE", 0.0)
    rig = await make_rig(max_buffered=BUFFERED)
    request = Request("/task", "POST", b'{"type": "reverse", "params": ["%b' % (b"x" * 900_000))
    async with stalled(rig, request, ends=False) as clients:
        await clients.check(BUFFERED + CLIENTS * EACH)
        assert [status for status in clients.statuses if status is not None] == [503] * (CLIENTS - 4)
        assert (await rig.client.post("/task", json={"type": "reverse", "params": ["x" * 800_000]})).status_code == 202


class Clients:
    """Clients that send one request and read only the beginning of its reply. before: bytes in use without them."""

    def __init__(self, number: int, before: int) -> None:
        self.statuses: list[int | None] = [None] * number
        self._before = before

    async def come_to_rest(self) -> None:
        """Wait until the service computes no more for them."""
        still, used = 0, process_time()
        async with asyncio.timeout(WITHIN):
            while still < 5:
                await asyncio.sleep(0.02)
                still = still + 1 if process_time() - used < 0.004 else 0
                used = process_time()

    async def check(self, most: int) -> None:
        """Check that they cost less than `most` bytes together, once the service has done all that it can."""
        end = asyncio.get_running_loop().time() + WITHIN
        while (held := self._held()) >= most:
            assert asyncio.get_running_loop().time() < end, f"they cost {held:,} bytes, of {most:,}"
            await asyncio.sleep(0.2)

    def _held(self) -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - self._before


async def check_cost(rig: Rig, request: Request, most: int) -> None:
    """Check that it costs less than `most` bytes if many send this request and do not read the reply."""
    async with stalled(rig, request) as clients:
        given = {status for status in clients.statuses if status is not None}
        assert given <= {200, 201, 202, 503}
        assert given & {200, 201, 202} or not given, "this run proves nothing"
        await clients.check(most)


@asynccontextmanager
async def stalled(rig: Rig, request: Request, *, ends: bool = True) -> AsyncIterator[Clients]:
    gc.collect()
    tracemalloc.start()
    clients, tasks = Clients(CLIENTS, tracemalloc.get_traced_memory()[0]), []
    try:
        for number in range(CLIENTS):
            tasks.append(asyncio.create_task(_ask(rig, request, clients, number, ends)))
            await asyncio.sleep(0.02)
        await clients.come_to_rest()
        yield clients
    finally:
        tracemalloc.stop()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _ask(rig: Rig, request: Request, clients: Clients, number: int, ends: bool) -> None:
    path, _, query = request.path.partition("?")
    headers = [(b"host", b"localhost"), (b"accept", request.accept.encode())]
    if request.body:
        headers += [(b"content-type", request.media.encode()), (b"transfer-encoding", b"chunked")]
    scope = {
        "type": "http", "method": request.method, "path": path, "raw_path": path.encode(), "headers": headers,
        "query_string": query.encode(), "client": ("127.0.0.1", 1), "http_version": "1.1",
    }  # fmt: skip
    pieces = [bytes(bytearray(request.body[at : at + 65536])) for at in range(0, max(1, len(request.body)), 65536)]
    pieces.reverse()
    size = 0

    async def receive() -> dict[str, Any]:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(), "more_body": bool(pieces) or not ends}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        nonlocal size
        if message["type"] == "http.response.start":
            clients.statuses[number] = message["status"]
        size += len(message.get("body", b""))
        if size >= 65536:
            await asyncio.Event().wait()

    await rig.app(scope, receive, send)
