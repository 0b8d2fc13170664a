"""The application of docs/fastapi.md, called in this process, and the service that runs its tasks."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tasker import contrib
from tasker.client import AsyncTasker, Tasker
from tasker.contrib.fastapi import add_error_handlers, get_tasker, make_lifespan, stream_events
from tests.contrib.pages import write_files
from tests.server import Server, run_server

MORE_TASKS = """
import asyncio

from tasker import Context, task


@task
async def wait_to_be_cancelled(context: Context) -> None:
    context.output("first")
    await asyncio.Event().wait()


@task
async def fail() -> None:
    raise ValueError("secret")
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Any]]:
    """A service with the tasks of the page, and the page's application, which knows it."""
    folder = tmp_path_factory.mktemp("page")
    write_files("fastapi.md", folder)
    (folder / "more.py").write_text(MORE_TASKS)
    spec = importlib.util.spec_from_file_location("app_of_fastapi_md", folder / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with run_server(folder, "stories.py", "more.py") as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TASKER_URL", server.url)
        patch.delenv("TASKER_TOKEN", raising=False)
        yield server, module.app


@pytest.fixture
def url(served: tuple[Server, Any]) -> str:
    return served[0].url


@pytest.fixture
async def browser(served: tuple[Server, Any]) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the application, which has started."""
    app = served[1]
    transport = httpx2.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://app") as one:
        yield one


def frames(text: str) -> list[tuple[int, str, Any]]:
    """Return the id, the type and the data of each event."""
    found = []
    for block in filter(None, text.split("\n\n")):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


async def test_a_browser_starts_a_task_and_reads_it(browser: httpx2.AsyncClient) -> None:
    task_id = (await browser.post("/stories", params={"name": "Ada"})).json()
    assert (await browser.get(f"/stories/{task_id}/length")).json() == 31
    reply = await browser.get(f"/stories/{task_id}")

    assert reply.headers["Content-Type"].startswith("text/event-stream")
    *output, last = frames(reply.text)
    assert "".join(data["chunk"] for _, _, data in output) == "Once upon a time there was Ada. "
    assert {kind for _, kind, _ in output} == {"output"}
    assert (last[1], last[2]["task"]["result"]) == ("completed", 31)
    assert "message" not in last[2]


async def test_a_browser_that_reconnects_gets_the_rest(browser: httpx2.AsyncClient) -> None:
    task_id = (await browser.post("/stories", params={"name": "Bo"})).json()
    await browser.get(f"/stories/{task_id}/length")
    seen = frames((await browser.get(f"/stories/{task_id}")).text)

    rest = await browser.get(f"/stories/{task_id}", headers={"Last-Event-ID": str(seen[0][0])})
    assert frames(rest.text) == seen[1:]
    assert (await browser.get(f"/stories/{task_id}", headers={"Last-Event-ID": str(seen[-1][0])})).status_code == 204
    assert frames((await browser.get(f"/stories/{task_id}", headers={"Last-Event-ID": "no number"})).text) == seen


async def test_a_browser_that_leaves_ends_the_stream_from_the_service(
    served: tuple[Server, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contrib.fastapi, "_HEARTBEAT", 0.01)
    app = served[1]
    sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    has_left = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await has_left.wait()
        return {"type": "http.disconnect"}

    async with app.router.lifespan_context(app):
        handle = await app.state.tasker.submit("wait_to_be_cancelled")
        scope = {
            "type": "http",
            "method": "GET",
            "path": f"/stories/{handle.task_id}",
            "headers": [],
            "query_string": b"",
        }
        call = asyncio.create_task(app(scope, receive, sent.put))
        assert (await sent.get())["status"] == 200
        chunks = [(await sent.get())["body"]]
        while b"first" not in chunks[-1]:
            chunks.append((await sent.get())["body"])
        assert (await sent.get())["body"] == b":\n\n"
        has_left.set()
        await call
        assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await handle.cancel()


async def test_a_stream_that_is_left_between_two_events_ends_the_one_from_the_service(url: str) -> None:
    is_closed = False

    async def events() -> AsyncIterator[Any]:
        nonlocal is_closed
        try:
            while True:
                yield "event"
        finally:
            is_closed = True

    stream = contrib.fastapi._with_heartbeats(events())
    assert await anext(stream) == "event"
    await stream.aclose()
    assert is_closed


async def test_refusals_become_problems(browser: httpx2.AsyncClient, served: tuple[Server, Any]) -> None:
    reply = await browser.get(f"/stories/{uuid4()}")
    assert (reply.status_code, reply.headers["Content-Type"]) == (404, "application/problem+json")
    assert reply.json()["title"] == "There is no such task"


async def test_each_error_has_its_status(url: str) -> None:
    from fastapi import FastAPI

    app = FastAPI(lifespan=make_lifespan(url, retries=0))
    add_error_handlers(app)

    @app.get("/{name}")
    async def run(name: str) -> Any:
        client: AsyncTasker = app.state.tasker
        if name == "late":
            return await (await client.submit("wait_to_be_cancelled")).result(timeout=0)
        return await client.run(name)

    @app.get("/elsewhere/{path:path}")
    async def elsewhere(path: str) -> Any:
        async with AsyncTasker("http://127.0.0.1:9", retries=0) as client:
            return await client.run("sum", 1)

    transport = httpx2.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://app") as client,
    ):
        failed = await client.get("/fail")
        assert failed.status_code == 500
        assert set(failed.json()) == {"title", "status", "task_id"}
        refused = await client.get("/tell")
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["pointer"] == "/params/0"
        late = await client.get("/late")
        assert late.status_code == 504
        with Tasker(url) as direct:
            direct.cancel(late.json()["task_id"])
        assert (await client.get("/elsewhere/")).status_code == 503


def test_an_application_without_the_lifespan_says_so() -> None:
    from fastapi import FastAPI, Request

    request = Request({"type": "http", "app": FastAPI(), "headers": []})
    with pytest.raises(RuntimeError, match="lifespan"):
        get_tasker(request)


def test_all_events_are_sent_by_default(url: str) -> None:
    from fastapi import Request

    async def read() -> list[tuple[int, str, Any]]:
        async with AsyncTasker(url) as client:
            handle = await client.submit("tell", name="Cy")
            await handle.wait()
            request = Request({"type": "http", "headers": []})
            response = await stream_events(client, handle.task_id, request)
            return frames(b"".join([chunk async for chunk in response.body_iterator]).decode())  # type: ignore[attr-defined]

    kinds = [kind for _, kind, _ in asyncio.run(read())]
    assert kinds[:2] == ["created", "started"]
    assert kinds[-1] == "completed"
