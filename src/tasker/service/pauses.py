"""Points at which work that takes long on an event loop lets the others on it have their turn."""

from __future__ import annotations

import asyncio
from time import perf_counter

AT_MOST = 0.005
"""Seconds of work between two turns of the others."""


class Pauses:
    """One piece of work: at many points of it, `if pauses.due(): await pauses.pause()`."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = perf_counter() + AT_MOST

    def due(self) -> bool:
        """Tell whether the work has taken long since others had their turn."""
        return perf_counter() >= self._until

    async def pause(self) -> None:
        """Let others have their turn."""
        await asyncio.sleep(0)
        self._until = perf_counter() + AT_MOST


class Turns:
    """Many pieces of work that may come at once: each awaits `next()` first, and does a part of it without a break.

    They begin in the order in which they came, and others on the loop have their turn every AT_MOST seconds, or after
    one piece if that alone takes longer.
    """

    __slots__ = ("_lock", "_pauses")

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._pauses = Pauses()

    async def next(self) -> None:
        """Return when it is the caller's turn."""
        async with self._lock:
            if self._pauses.due():
                await self._pauses.pause()
