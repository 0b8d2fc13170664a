"""Carry the client's requests to an ASGI application in this process, replies that are streams included.

The HTTP client's own transport for this reads a whole reply before it returns: a stream would never come.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, MutableMapping
from typing import Any, TypeVar

import httpx2

T = TypeVar("T")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Any, Receive, Send], Awaitable[None]]
CallOnLoop = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a coroutine on the application's loop, and waits for what it returns."""


class Exchange:
    """One request to an application, which works on it until its reply has been read or is closed."""

    def __init__(self, app: ASGIApp, request: httpx2.Request, body: bytes) -> None:
        self._app = app
        self._scope = _scope_of(request)
        self._body: bytes | None = body
        self._sent: asyncio.Queue[Message] = asyncio.Queue()
        self._is_gone = asyncio.Event()
        self._work = asyncio.create_task(self._run())

    async def start(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Wait for the head of the reply; return its status and headers. Raises what the application raises."""
        message = await self._next()
        if message is None:
            raise RuntimeError("the application ended without a reply")
        return message["status"], list(message.get("headers", ()))

    async def read(self) -> bytes | None:
        """Wait for the next part of the body; return None at its end. Raises what the application raises."""
        message = await self._next()
        if message is None:
            return None
        body: bytes = message.get("body", b"")
        return body

    async def close(self) -> None:
        """Tell the application that the client has gone, and wait for its end."""
        self._is_gone.set()
        self._work.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):  # nobody reads on: its faults concern nobody
            await self._work

    async def _next(self) -> Message | None:
        """Return what the application sends next; None once it has ended."""
        if self._sent.empty() and not self._work.done():
            coming = asyncio.create_task(self._sent.get())
            try:
                await asyncio.wait([coming, self._work], return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    return coming.result()
            finally:
                coming.cancel()
        if not self._sent.empty():
            return self._sent.get_nowait()
        self._work.result()
        return None

    async def _run(self) -> None:
        async def send(message: Message) -> None:
            self._sent.put_nowait(message)

        await self._app(self._scope, self._receive, send)

    async def _receive(self) -> Message:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self._is_gone.wait()
        return {"type": "http.disconnect"}


class AsyncTransport(httpx2.AsyncBaseTransport):
    """The way of an AsyncTasker to an application on the same loop."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange = Exchange(self._app, request, await request.aread())
        try:
            status, headers = await exchange.start()
        except BaseException:
            await exchange.close()
            raise
        return httpx2.Response(status, headers=headers, stream=_AsyncBody(exchange))


class SyncTransport(httpx2.BaseTransport):
    """The way of a Tasker to an application on another thread's loop."""

    def __init__(self, app: ASGIApp, call: CallOnLoop) -> None:
        self._app = app
        self._call = call

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange, status, headers = self._call(self._begin(request, request.read()))
        return httpx2.Response(status, headers=headers, stream=_SyncBody(exchange, self._call))

    async def _begin(self, request: httpx2.Request, body: bytes) -> tuple[Exchange, int, list[tuple[bytes, bytes]]]:
        exchange = Exchange(self._app, request, body)
        try:
            return exchange, *await exchange.start()
        except BaseException:
            await exchange.close()
            raise


class _AsyncBody(httpx2.AsyncByteStream):
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (part := await self._exchange.read()) is not None:
            yield part

    async def aclose(self) -> None:
        await self._exchange.close()


class _SyncBody(httpx2.SyncByteStream):
    def __init__(self, exchange: Exchange, call: CallOnLoop) -> None:
        self._exchange = exchange
        self._call = call

    def __iter__(self) -> Iterator[bytes]:
        while (part := self._call(self._exchange.read())) is not None:
            yield part

    def close(self) -> None:
        self._call(self._exchange.close())


def _scope_of(request: httpx2.Request) -> dict[str, Any]:
    raw_path, _, query = request.url.raw_path.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 50000),
        "server": (request.url.host, request.url.port or 80),
        "extensions": {},
    }
