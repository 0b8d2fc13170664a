"""Both clients by one interface, so that a test says once what both have to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tasker.client import AsyncTasker, Tasker

Ask = Callable[[Callable[[Any], Any]], Any]
"""Gives a client to a function, and returns what its call returns: of iterators a list."""
SHELLS = ("sync", "async")


@contextmanager
def open_client(shell: str, url: str | None = None, token: str | None = None, **options: Any) -> Iterator[Ask]:
    """Open a client: `ask(lambda client: client.get(task_id))`, whichever it is."""
    if shell == "sync":
        with Tasker(url, token, **options) as client:
            yield lambda do: _listed(do(client))
        return
    with asyncio.Runner() as runner:
        other = AsyncTasker(url, token, **options)
        try:
            yield lambda do: runner.run(_awaited(do, other))
        finally:
            runner.run(other.close())


def _listed(found: Any) -> Any:
    return list(found) if isinstance(found, Iterator) else found


async def _awaited(do: Callable[[Any], Any], client: AsyncTasker) -> Any:
    found = do(client)
    if isinstance(found, AsyncIterator):
        return [item async for item in found]
    return await found if asyncio.iscoroutine(found) else found


@contextmanager
def connect(shell: str, url: str | None = None, token: str | None = None, **options: Any) -> Iterator[Any]:
    """Open a client with the methods of Tasker, whichever it is: coroutines are awaited where they are called."""
    if shell == "sync":
        with Tasker(url, token, **options) as client:
            yield client
        return
    with asyncio.Runner() as runner:
        other = AsyncTasker(url, token, **options)
        begun: list[AsyncGenerator[Any, None]] = []
        try:
            yield _Blocking(other, runner, begun)
        finally:
            for found in begun:
                runner.run(found.aclose())
            runner.run(other.close())


class _Blocking:
    """An asynchronous object whose coroutines are awaited where they are called. begun: takes its iterators."""

    def __init__(self, inner: Any, runner: asyncio.Runner, begun: list[AsyncGenerator[Any, None]]) -> None:
        self._inner, self._runner, self._begun = inner, runner, begun

    def __getattr__(self, name: str) -> Any:
        return self._wrap(getattr(self._inner, name))

    def _wrap(self, found: Any) -> Any:
        if asyncio.iscoroutine(found):
            return self._wrap(self._runner.run(found))
        if isinstance(found, AsyncGenerator):
            self._begun.append(found)
            return self._iterate(found)
        if callable(found) and not isinstance(found, type):
            return lambda *args, **kwargs: self._wrap(found(*args, **kwargs))
        return _Blocking(found, self._runner, self._begun) if type(found).__name__.startswith("Async") else found

    def _iterate(self, found: AsyncGenerator[Any, None]) -> Iterator[Any]:
        while (item := self._runner.run(_next(found))) is not _END:
            yield item


_END = object()


async def _next(found: AsyncGenerator[Any, None]) -> Any:
    return await anext(found, _END)
