"""Requests that wait: they let what is due run, and are then answered at once, because nothing else would happen."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

from tasker.testing.asgi import ASGIApp, Receive, Send

_WAIT = re.compile(rb"\s*,?\s*\bwait\s*=[^,;]*")
_TASK = re.compile(r"/task/([0-9a-fA-F-]{36})(/events)?")
_GROUP = re.compile(r"/group/([^/]+)")

Letting = Callable[[], Awaitable[object]]
"""Lets all that is due run."""
Checking = Callable[[str], Awaitable[None]]
"""Raises StillOpen if a task, or a task of a group, has not ended."""


class StillOpen(AssertionError):
    """Something waits for a task that is not going to end by itself: the message says what it needs."""


class Patient:
    """ASGI: an application whose requests never wait for time to pass."""

    def __init__(self, app: ASGIApp, drain: Letting, check_task: Checking, check_group: Checking) -> None:
        self._app = app
        self._drain = drain
        self._check_task = check_task
        self._check_group = check_group

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _waits(scope):
            scope = _without_wait(scope)
            if scope["method"] in ("GET", "HEAD"):
                await self._let_happen(scope["path"])
        await self._app(scope, receive, send)

    async def _let_happen(self, path: str) -> None:
        await self._drain()
        if found := _TASK.fullmatch(path):
            await self._check_task(found[1])
        elif found := _GROUP.fullmatch(path):
            await self._check_group(unquote(found[1]))


def _waits(scope: Any) -> bool:
    """Tell whether a request waits for a task, or follows one."""
    headers = dict(scope["headers"])
    if scope["path"].endswith("/events") and b"text/event-stream" in headers.get(b"accept", b""):
        return True
    return _WAIT.search(headers.get(b"prefer", b"")) is not None or b"wait=" in scope["query_string"]


def _without_wait(scope: Any) -> dict[str, Any]:
    headers = [
        (name, _WAIT.sub(b"", value) if name == b"prefer" else value)
        for name, value in scope["headers"]
        if name != b"prefer" or _WAIT.sub(b"", value).strip()
    ]
    query = [(name, value) for name, value in parse_qsl(scope["query_string"].decode()) if name != "wait"]
    return {**scope, "headers": headers, "query_string": urlencode(query).encode()}
