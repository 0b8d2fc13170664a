"""The types of what clients give. mypy and pyright check this file; it is never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type
from uuid import UUID

from tasker import AsyncTasker, Context, SyncContext, Tasker, task
from tasker.client import (
    AsyncHandle,
    BatchItem,
    Event,
    Handle,
    LogEntry,
    Mapped,
    RawResponse,
    SubmitOptions,
    Task,
)


class Size:
    width: int


@task
def thumbnail(url: str, width: int = 3) -> str:
    raise NotImplementedError


@task(queue="slow", retry=3)
async def render(context: Context, page: str, *, dpi: int = 72) -> Size:
    raise NotImplementedError


@task
def blocking(context: SyncContext, page: str) -> list[int]:
    raise NotImplementedError


@task
async def nothing() -> None:
    raise NotImplementedError


@task
async def late(page: str, context: Context) -> int:
    raise NotImplementedError


@task
def anything(value: object, times: int) -> str:
    raise NotImplementedError


def no_task(url: str) -> str:
    raise NotImplementedError


async def direct(context: Context) -> None:
    """A direct call stays a plain call."""
    assert_type(thumbnail("a", width=3), str)
    assert_type(await render(context, "a", dpi=3), Size)
    assert_type(await late(page="a", context=context), int)
    assert_type(thumbnail.__name__, str)
    thumbnail(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def runs(client: Tasker) -> None:
    assert_type(client.run(thumbnail, "a"), str)
    assert_type(client.run(thumbnail, url="a", width=3), str)
    assert_type(client.run(render, "a", dpi=3), Size)
    assert_type(client.run(blocking, page="a"), list[int])
    assert_type(client.run(anything, {"a": 1}, times=2), str)
    assert_type(client.run(thumbnail.options(delay=60).options(priority=1), "a"), str)
    assert_type(client.run(thumbnail, "a", options=SubmitOptions(delay=60)), str)
    assert_type(client.run(late, "a", options=SubmitOptions()), int)
    assert_type(client.run("thumbnail", "a", width=3), Any)
    assert_type(client.run("thumbnail", "a", options=SubmitOptions()), Any)
    assert_type(client.submit(render, "a"), Handle[Size])
    assert_type(client.submit(render.options(tags=["a"]), "a"), Handle[Size])
    assert_type(client.submit("render"), Handle[Any])
    assert_type(client.map(render, ["a"], max_in_flight=5), Iterator[Mapped[Size]])
    assert_type(client.map("render", [("a",)]), Iterator[Mapped[Any]])
    assert_type(client.batch([{"type": "render", "params": ["a"]}]), Iterator[BatchItem])
    assert_type(client.handle_of(UUID(int=0), render), Handle[Size])
    assert_type(client.handle_of("x"), Handle[Any])
    assert_type(client.with_options(timeout=2, retries=0).run(thumbnail, "a"), str)


def handles(handle: Handle[Size], client: Tasker) -> None:
    assert_type(handle.result(timeout=3), Size)
    assert_type(handle.wait(), Task)
    assert_type(handle.replay(page="b"), Handle[Size])
    assert_type(handle.output(), Iterator[str])
    assert_type(handle.logs(follow=True), Iterator[LogEntry])
    assert_type([one.result() for one in client.map(render, ["a"])], list[Size])
    raw = client.with_raw_response
    assert_type(raw.get(handle.task_id, steps=True), RawResponse[Task])
    assert_type(raw.run(thumbnail, "a").parse(), str)
    assert_type(raw.submit(render, "a").parse(), Handle[Size])
    assert_type(raw.cancel("x").headers["Date"], str)


async def awaits(client: AsyncTasker) -> None:
    assert_type(await client.run(thumbnail, "a", width=3), str)
    assert_type(await client.run("thumbnail"), Any)
    assert_type(await client.run(nothing), None)
    handle = await client.submit(render.options(delay=3), "a")
    assert_type(handle, AsyncHandle[Size])
    assert_type(await handle, Size)
    async for event in handle:
        assert_type(event, Event)
    assert_type(await handle.replay(page="b"), AsyncHandle[Size])
    assert_type(handle.output(), AsyncIterator[str])
    assert_type([one.result() async for one in client.map(render, ["a"])], list[Size])
    assert_type(await client.with_raw_response.get("x"), RawResponse[Task])
    assert_type((await client.with_raw_response.run(thumbnail, "a")).parse(), str)


def refused(client: Tasker) -> None:
    client.run(thumbnail)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    client.run(thumbnail, 3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    client.run(thumbnail, "a", wrong=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.run(thumbnail, url="a", width="b")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    client.run(late, "a")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    client.run(no_task, "a")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    client.submit(render, "a", 5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    client.submit(render.options(delay=3), 5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    thumbnail.options(delay="soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    thumbnail.options(dely=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    size: Size = client.run(thumbnail, "a")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    handle: Handle[str] = client.submit(render, "a")  # type: ignore[call-overload]  # pyright: ignore[reportAssignmentType]
    client.with_raw_response.get(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.with_raw_response.run(thumbnail, 3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    print(size, handle)


async def refused_too(client: AsyncTasker) -> None:
    await client.run(thumbnail, 3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await client.submit(thumbnail, "a", wrong=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    size: Size = await client.run(thumbnail, "a")  # type: ignore[call-overload]  # pyright: ignore[reportAssignmentType]
    print(size)
