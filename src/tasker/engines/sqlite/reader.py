"""The reader: runs long queries in its own thread and on its own connection, in parallel with the writer."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

import apsw

from tasker.engines.sqlite.faults import reading

P = ParamSpec("P")
T = TypeVar("T")


class Reader:
    """Runs queries on a reading connection, one at a time. Use it on the event loop that made it."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tasker-read")

    def __call__(
        self, query: Callable[Concatenate[apsw.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        """Return what `query(connection, ...)` returns. Raises Unavailable where the disk cannot be read."""
        work = functools.partial(query, self._connection, *args, **kwargs)
        return self._loop.run_in_executor(self._thread, reading, work)

    def close(self) -> None:
        """Finish what was begun, and close the connection."""
        self._thread.shutdown()
        self._connection.close()
