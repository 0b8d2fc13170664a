"""Pauses in long work on the event loop, so that other coroutines run in between."""

from __future__ import annotations

import asyncio
from time import perf_counter

AT_MOST = 0.005
"""Seconds of work between two pauses."""


class Pauses:
    """The pauses of one piece of work, which often calls: `if pauses.due(): await pauses.pause()`."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = perf_counter() + AT_MOST

    def due(self) -> bool:
        """Tell whether the work has run for AT_MOST since the last pause."""
        return perf_counter() >= self._until

    async def pause(self) -> None:
        """Let other coroutines run."""
        await asyncio.sleep(0)
        self._until = perf_counter() + AT_MOST


class Turns:
    """Pauses between many short pieces of work: each awaits `next()`, then runs without a pause.

    They begin in the order of their calls. Other coroutines run every AT_MOST seconds, or after one piece of work if
    that alone takes longer.
    """

    __slots__ = ("_lock", "_pauses")

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._pauses = Pauses()

    async def next(self) -> None:
        """Return when the caller may begin."""
        async with self._lock:
            if self._pauses.due():
                await self._pauses.pause()
