"""Tasker in a FastAPI application: one client for all requests, streams for browsers, errors as problem+json.

app = FastAPI(lifespan=lifespan)
add_error_handlers(app)


@app.post("/greetings")
async def start(name: str, tasker: TaskerDep) -> UUID:
    return (await tasker.submit("greet", name=name)).task_id


@app.get("/greetings/{task_id}")
async def follow(task_id: UUID, request: Request, tasker: TaskerDep) -> Response:
    return await stream_events(tasker, task_id, request)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Annotated, Any
from uuid import UUID

import msgspec
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from msgspec import structs

from tasker.client import AsyncTasker, Event
from tasker.client.errors import (
    AwaitsRestart,
    ClientError,
    Conflict,
    InvalidRequest,
    NotFound,
    ServiceError,
    TaskCancelled,
    TaskFailed,
    Unavailable,
    Unreachable,
    WaitTimeout,
)

_HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent, so that no proxy ends the stream."""
_LAST = frozenset({"completed", "failed", "cancelled"})
"""Types of a task's last event."""
_STATUSES: tuple[tuple[type[ClientError], int, str], ...] = (
    (InvalidRequest, 422, "The task was refused"),
    (NotFound, 404, "There is no such task"),
    (Conflict, 409, "The task's status does not allow this"),
    (Unavailable, 503, "The tasks' service is busy"),
    (AwaitsRestart, 503, "The tasks' service restarts"),
    (Unreachable, 503, "The tasks' service does not answer"),
    (WaitTimeout, 504, "The task takes longer"),
    (TaskFailed, 500, "The task failed"),
    (TaskCancelled, 409, "The task was cancelled"),
)
"""The first one that fits; 502 for the rest: a wrong key of this application, for example."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def connected(
    app: FastAPI, url: str | None = None, token: str | None = None, **options: Any
) -> AsyncIterator[None]:
    """Give an application a client, and close it on the way out; for a lifespan of your own.

    The arguments are those of AsyncTasker. `app.state.tasker` is the client.
    """
    async with AsyncTasker(url, token, **options) as client:
        app.state.tasker = client
        yield


def make_lifespan(url: str | None = None, token: str | None = None, **options: Any) -> Lifespan:
    """Return a lifespan of an application that gives it a client of this service; the arguments are AsyncTasker's."""
    return lambda app: connected(app, url, token, **options)


lifespan: Lifespan = make_lifespan()
"""A lifespan with a client of the service that TASKER_URL and TASKER_TOKEN name."""


def get_tasker(request: Request) -> AsyncTasker:
    """Return the application's client. Raises RuntimeError if the application has no lifespan that makes one."""
    client = getattr(request.app.state, "tasker", None)
    if not isinstance(client, AsyncTasker):
        raise RuntimeError("the application has no client: FastAPI(lifespan=tasker.contrib.fastapi.lifespan)")
    return client


TaskerDep = Annotated[AsyncTasker, Depends(get_tasker)]
"""The application's client, as a parameter of a route."""


async def stream_events(
    client: AsyncTasker, task_id: UUID | str, request: Request, *, only: Collection[str] | None = None
) -> Response:
    """Return a task's events as Server-Sent Events, as they happen, until it has ended.

    Each has the number of the event as its id, its type and its JSON: `event: output`, `data: {"chunk": "Hello", ...}`.
    A browser that reconnects (`Last-Event-ID`) gets what it has missed, each event once; after the end it gets 204, so
    that it does not connect again. only: types of events to send; the last one is always sent. Raises NotFound.

    Whoever may call the route sees the task: check before whose it is.
    """
    last_id = request.headers.get("Last-Event-ID", "")
    after = int(last_id) if last_id.isdecimal() and len(last_id) < 19 else 0
    task = await client.get(task_id)
    events = client.events(task_id, after=after)
    first = None
    if task.status.is_terminal:
        first = await anext(events, None)
        if first is None:
            return Response(status_code=204)
    wanted = None if only is None else _LAST.union(only)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_frames(events, first, wanted), media_type="text/event-stream", headers=headers)


async def _frames(
    events: AsyncIterator[Event], first: Event | None, wanted: Collection[str] | None
) -> AsyncIterator[bytes]:
    if first is not None and _is_wanted(first, wanted):
        yield _frame(first)
    async with aclosing(_with_heartbeats(events)) as rest:
        async for event in rest:
            if event is None:
                yield b":\n\n"
            elif _is_wanted(event, wanted):
                yield _frame(event)


def _is_wanted(event: Event, wanted: Collection[str] | None) -> bool:
    return wanted is None or event.type in wanted


async def _with_heartbeats(events: AsyncIterator[Event]) -> AsyncGenerator[Event | None, None]:
    """Yield the events, and None for each silence. It leaves no request behind when it is closed."""
    following: asyncio.Task[Event | None] | None = None
    try:
        while True:
            following = asyncio.ensure_future(_next(events))
            while not (await asyncio.wait({following}, timeout=_HEARTBEAT))[0]:
                yield None
            event = following.result()
            if event is None:
                return
            yield event
    finally:
        if following is not None and not following.done():
            following.cancel()
            await asyncio.wait({following})
        if isinstance(events, AsyncGenerator):
            await events.aclose()


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)


def _frame(event: Event) -> bytes:
    values = ((one, getattr(event, one.name)) for one in structs.fields(event))
    shown = {one.encode_name: value for one, value in values if value != one.default and value != {}}
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.sequence, event.type.encode(), msgspec.json.encode(shown))


def add_error_handlers(app: FastAPI) -> None:
    """Have the application answer the errors of the client with problem+json (RFC 9457) instead of a bare 500.

    InvalidRequest 422 with `errors`, NotFound 404, Conflict and TaskCancelled 409, TaskFailed 500 without what went
    wrong, Unavailable, Unreachable and AwaitsRestart 503, WaitTimeout 504, others 502.
    """
    app.add_exception_handler(ClientError, _answer)


async def _answer(request: Request, error: Exception) -> Response:
    status, title = next(
        ((status, title) for kind, status, title in _STATUSES if isinstance(error, kind)),
        (502, "The tasks' service refuses this application, or is none"),
    )
    problem: dict[str, Any] = {"title": title, "status": status}
    headers = {}
    if status < 500 and isinstance(error, ServiceError):
        problem["detail"] = error.detail
        if error.faults:
            problem["errors"] = [{"pointer": fault.pointer, "detail": fault.detail} for fault in error.faults]
    if isinstance(error, TaskFailed | TaskCancelled | AwaitsRestart | WaitTimeout):
        problem["task_id"] = str(error.task_id)
    if isinstance(error, ServiceError) and error.retry_after is not None:
        headers["Retry-After"] = str(int(error.retry_after.total_seconds()))
    return JSONResponse(problem, status, headers, media_type="application/problem+json")
