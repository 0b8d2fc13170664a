"""The access log: one line for each request once it is answered, for a stream once it has ended."""

from __future__ import annotations

from time import perf_counter

import structlog

from tasker.api.replies import ASGIApp, Head, Message, Receive, Scope, Send

_MAX_PATH = 1_000
"""Logged characters of a path."""

_log = structlog.get_logger("tasker.access")


class AccessLog:
    """ASGI: logs each request that `app` has answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started, size = perf_counter(), 0

        async def count(message: Message) -> None:
            nonlocal size
            await send(message)
            size += len(message.get("body", b""))

        try:
            await self._app(scope, receive, count)
        finally:
            _write(scope["path"], scope["tasker"], size, perf_counter() - started)


def _write(path: str, head: Head, size: int, seconds: float) -> None:
    """Log a request, without its query and headers: they may hold secrets. Of a key only the id is logged."""
    _log.info(
        "request",
        request_id=head.request_id.decode(),
        method=head.method,
        path=path[:_MAX_PATH],
        status=head.status,
        duration_ms=round(seconds * 1000, 3),
        bytes=size,
        key_id=head.caller.key_id,
        address=head.address,
    )
