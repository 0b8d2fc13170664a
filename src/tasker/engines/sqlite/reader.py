"""The reader: runs long queries in threads, each on a connection of its own, in parallel with the writer."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Concatenate, ParamSpec, TypeVar

import apsw

from tasker.engines.sqlite.faults import reading
from tasker.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")

READERS = 3
"""Connections of a Reader."""
LONGEST = 10.0
"""Seconds after which a scan is given up. Scans end much earlier by themselves; a disk may be slow."""
NICER = 5
"""By how much the scans' threads are nicer than the others (setpriority(2)): a busy core gives them a quarter.

Much more would stall the event loop: a thread that waits long for the processor may hold Python's lock meanwhile.
"""
_STEPS = 100_000
"""Steps of SQLite's virtual machine, a few milliseconds, between two looks at the time."""


class Reader:
    """Runs queries on reading connections, one at a time on each. Use it on the event loop that made it.

    Scans, which may look at many rows, have all connections but the first to themselves: they hold no other query up.
    Their threads leave the processor to the event loop. On one core, a scan took half of its time otherwise.
    """

    def __init__(self, connections: Sequence[apsw.Connection], *, longest: float = LONGEST) -> None:
        self._short = _Threads(connections[:1], "tasker-read")
        self._scans = _Threads(connections[1:], "tasker-scan", _be_nice)
        self._longest = longest

    def __call__(
        self, query: Callable[Concatenate[apsw.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        """Return what `query(connection, ...)` returns. Raises Unavailable where the disk cannot be read."""
        return self._short.run(lambda connection: reading(functools.partial(query, connection, *args, **kwargs)))

    def scan(
        self, query: Callable[Concatenate[apsw.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        """Do the same for a query that looks at many rows. Raises Unavailable also if it takes too long."""
        return self._scans.run(
            lambda connection: _within(self._longest, connection, functools.partial(query, connection, *args, **kwargs))
        )

    async def passed(self) -> None:
        """Return once the queries under way have ended: all others see what is durable now."""
        await self._short.passed()
        await self._scans.passed()

    def close(self) -> None:
        """Finish what was begun, and close the connections."""
        self._short.close()
        self._scans.close()


class _Threads:
    """A thread for each of some connections."""

    def __init__(
        self, connections: Sequence[apsw.Connection], name: str, begin: Callable[[], None] | None = None
    ) -> None:
        """Take over the connections. begin: called first in each thread."""
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(len(connections), thread_name_prefix=name, initializer=begin)
        self._under_way: set[Future[Any]] = set()
        self._free: SimpleQueue[apsw.Connection] = SimpleQueue()
        self._connections = connections
        for connection in connections:
            self._free.put(connection)

    def run(self, work: Callable[[apsw.Connection], T]) -> asyncio.Future[T]:
        """Work with a free connection, in a thread."""
        future = self._threads.submit(self._work, work)
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return asyncio.wrap_future(future, loop=self._loop)

    async def passed(self) -> None:
        """Return once the work under way has ended, also if its caller has been cancelled."""
        under_way = [asyncio.wrap_future(future) for future in list(self._under_way)]
        if under_way:
            await asyncio.wait(under_way)

    def close(self) -> None:
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()

    def _work(self, work: Callable[[apsw.Connection], T]) -> T:
        connection = self._free.get()
        try:
            return work(connection)
        finally:
            self._free.put(connection)


def _be_nice() -> None:
    """Lower this thread's priority. Only Linux has one for each thread."""
    if sys.platform == "linux":
        own = threading.get_native_id()
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, own, min(19, os.getpriority(os.PRIO_PROCESS, own) + NICER))


def _within(seconds: float, connection: apsw.Connection, query: Callable[[], T]) -> T:
    """Return what a query returns. Raises Unavailable if it takes longer."""
    until = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
    try:
        return reading(query)
    except apsw.InterruptError as error:
        raise Unavailable("the store is too slow to look at so many tasks now") from error
    finally:
        connection.set_progress_handler(None)
