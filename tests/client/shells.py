"""Both clients by one interface, so that a test says once what both have to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
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
