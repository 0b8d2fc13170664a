"""The streams of pages: what they send, and to whom."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from html import unescape
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from tasker.api.replies import Scope
from tasker.model import Task, TaskFilter
from tasker.model.keys import ANYBODY, Caller
from tasker.web.frame import Frame
from tasker.web.live import message, partial
from tasker.web.sessions import Sessions
from tasker.web.tasks import RowMaker
from tests.api.conftest import announce
from tests.web.conftest import Web

SOON = 10.0
"""Seconds within which something must come."""


class Listener:
    """Reads a stream, as the application sends it."""

    def __init__(self, web: Web, path: str, headers: dict[str, str]) -> None:
        self._web = web
        self.path, _, self.query = path.partition("?")
        self._headers = headers
        self._got: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._gone = asyncio.Event()
        self.status = 0

    async def run(self) -> None:
        cookie = "; ".join(f"{name}={value}" for name, value in self._web.client.cookies.items())
        headers = {
            "host": "localhost:5000",
            "accept": "text/html, text/event-stream",
            "cookie": cookie,
            **self._headers,
        }
        scope: Scope = {
            "type": "http", "method": "GET", "path": self.path, "raw_path": self.path.encode(),
            "query_string": self.query.encode(), "client": ("127.0.0.1", 1),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip

        async def receive() -> dict[str, Any]:
            await self._gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            self.status = message.get("status", self.status)
            self._got.put_nowait(message)

        await self._web.rig.app(scope, receive, send)
        self._got.put_nowait({"body": b"", "type": "end"})

    async def text_with(self, part: str) -> str:
        """Return what came, up to the chunk that has `part`."""
        text = ""
        async with asyncio.timeout(SOON):
            while part not in text:
                message = await self._got.get()
                assert message["type"] != "end", text
                text += message.get("body", b"").decode()
        return text

    async def end(self) -> str:
        """Return what came until the stream ended."""
        text = ""
        async with asyncio.timeout(SOON):
            while (message := await self._got.get())["type"] != "end":
                text += message.get("body", b"").decode()
        return text

    def leave(self) -> None:
        self._gone.set()


@contextlib.asynccontextmanager
async def listening(web: Web, path: str, **headers: str) -> AsyncIterator[Listener]:
    listener = Listener(web, path, headers)
    running = asyncio.create_task(listener.run())
    try:
        yield listener
    finally:
        listener.leave()
        await asyncio.wait([running], timeout=SOON)


async def stream_of(web: Web, path: str) -> str:
    """Return the path of a page's stream."""
    found = re.search(r'hx-sse:connect="([^"]+)"', await web.get(path))
    assert found is not None
    return "/ui/" + unescape(found[1])


async def test_a_row_in_sight_is_sent_when_its_task_has_changed(web: Web) -> None:
    task_id = await web.rig.submit()
    async with listening(web, await stream_of(web, "/ui/tasks")) as stream:
        await stream.text_with("still here")
        await web.rig.finish()
        text = await stream.text_with(f'hx-target="#t-{task_id}"')
        assert 'data-status="completed"' in text
        assert all(line.startswith(("data: ", "id: ", ": ")) or not line for line in text.splitlines())


async def test_a_row_that_changed_before_its_stream_began_is_sent(web: Web) -> None:
    waits = await web.rig.submit("reverse", ["x"], delay=60)
    task_id = await web.rig.submit()
    path = await stream_of(web, "/ui/tasks")
    await web.rig.finish()
    async with listening(web, path) as stream:
        text = await stream.text_with(f'hx-target="#t-{task_id}"')
        assert 'data-status="completed"' in text
        assert waits not in text


async def test_new_tasks_raise_a_number(web: Web) -> None:
    async with listening(web, await stream_of(web, "/ui/tasks?type=sum")) as stream:
        await stream.text_with("still here")
        await web.rig.submit("reverse", ["x"])
        await web.rig.submit("sum", [1, 2])
        assert "1 new task: show it" in await stream.text_with("more-new")
        await web.rig.submit("sum", [1, 2])
        assert "2 new tasks: show them" in await stream.text_with("more-new")


@pytest.mark.parametrize(
    ("path", "part", "text"),
    [("queues", "queues", 'id="q-llm"'), ("workers", "workers", "<bdi>w</bdi>"), ("bulk", "receipt", "1</b> done")],
)
async def test_the_other_streams_begin_with_their_part(web: Web, path: str, part: str, text: str) -> None:
    await announce(web.rig)
    await web.rig.submit(queue="llm")
    await web.rig.submit(queue="other")
    done = (await web.rig.client.post("/bulk", json={"action": "cancel", "filter": {"queue": "other"}})).json()
    stream = f"/ui/bulk/{done['bulk_id']}/live" if path == "bulk" else await stream_of(web, f"/ui/{path}")
    async with listening(web, stream) as heard:
        assert f'hx-target="#{part}"' in await heard.text_with(text)


async def test_a_row_that_no_longer_fits_is_dimmed(web: Web) -> None:
    task_id = await web.rig.submit()
    async with listening(web, await stream_of(web, "/ui/tasks?status=pending")) as stream:
        await stream.text_with("still here")
        await web.rig.finish()
        assert 'class="gone"' in await stream.text_with(f"#t-{task_id}")


async def test_another_owners_tasks_are_not_told(web: Web) -> None:
    alice = await web.rig.key("submit", owner="alice")
    hers = await web.rig.client.post("/task", json={"type": "sum", "params": [4, 2]}, headers=alice)
    await web.sign_in("read", owner="bob")
    path = await stream_of(web, "/ui/tasks")
    await web.sign_in("read", owner="alice")
    rows = (await stream_of(web, "/ui/tasks")).partition("rows=")[2]
    await web.sign_in("read", "submit", owner="bob")
    bob = await web.rig.key("submit", owner="bob")
    async with listening(web, path.replace("rows=", f"rows={rows}")) as stream:
        await stream.text_with("still here")
        await web.rig.client.post("/task", json={"type": "sum", "params": [1, 1]}, headers=alice)
        await web.rig.finish()
        await web.rig.client.post("/task", json={"type": "sum", "params": [1, 1]}, headers=bob)
        text = await stream.text_with("more-new")
        assert "1 new task: show it" in text
        assert hers.json()["task_id"] not in text


async def test_one_that_comes_back_is_told_that_it_missed_something(web: Web) -> None:
    path = await stream_of(web, "/ui/tasks")
    async with listening(web, path, **{"last-event-id": "on"}) as stream:
        assert "event: reset" in await stream.text_with("still here")
    async with listening(web, path) as stream:
        assert "event: reset" not in await stream.text_with("still here")


async def test_a_revoked_key_ends_the_stream(web: Web) -> None:
    key_id = await web.sign_in("read", "submit", owner="alice")
    alice = await web.rig.key("submit", owner="alice")
    path = await stream_of(web, "/ui/tasks")
    async with listening(web, path) as stream:
        await stream.text_with("still here")
        await web.rig.service.keys.revoke(key_id)
        await web.rig.client.post("/task", json={"type": "sum", "params": [1, 1]}, headers=alice)
        assert "more-new" not in await stream.end()
    assert (await web.client.get(path)).status_code == 401


async def test_it_ends_with_the_service(web: Web) -> None:
    async with listening(web, await stream_of(web, "/ui/tasks")) as stream:
        await stream.text_with("still here")
        web.rig.service.stop()
        await stream.end()


def test_no_line_of_a_text_is_a_line_of_the_stream() -> None:
    sent = message([partial("x", "a\rid: 7\r\nevent: reset\nb")], "1")
    assert sent == (
        b'id: 1\ndata: <hx-partial hx-target="#x" hx-swap="outerMorph">a\ndata: id: 7\n'
        b"data: event: reset\ndata: b</hx-partial>\n\n"
    )


async def test_a_row_read_before_a_change_is_not_kept_after_it(web: Web) -> None:
    task_id, rig = UUID(await web.rig.submit()), web.rig
    has_read, go_on = asyncio.Event(), asyncio.Event()

    async def find(caller: Caller, task_id: UUID) -> Task | None:
        task = await rig.service.tasks.find(caller, task_id)
        has_read.set()
        await go_on.wait()
        return task

    service = SimpleNamespace(tasks=SimpleNamespace(find=find), waiting=rig.service.waiting)
    live = SimpleNamespace(pulse=SimpleNamespace(number=1))
    frame = Frame(Sessions(rig.service.keys, None, rig.clock), rig.clock, engine="SQLite")  # type: ignore[arg-type]
    rows = RowMaker(frame, service, live)  # type: ignore[arg-type]
    slow = asyncio.create_task(rows.make(ANYBODY, [task_id], TaskFilter()))
    async with asyncio.timeout(SOON):
        await has_read.wait()
        await rig.finish()
        live.pulse.number = 2
        await rows.make(ANYBODY, [], TaskFilter())  # for another page
        go_on.set()
        assert 'data-status="pending"' in (await slow)[0]
        assert 'data-status="completed"' in (await rows.make(ANYBODY, [task_id], TaskFilter()))[0]
