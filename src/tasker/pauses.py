"""Points at which work that takes long on an event loop lets the others on it have their turn."""

from __future__ import annotations

import asyncio
from time import perf_counter

AT_MOST = 0.005
"""Seconds of work between two turns of the others."""


class Pauses:
    """One piece of work. Call `point` often: it costs little, and pauses only where it is time to."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since = perf_counter()

    async def point(self) -> None:
        """Let others have their turn, if the work has taken long since they had one."""
        if perf_counter() - self._since >= AT_MOST:
            await asyncio.sleep(0)
            self._since = perf_counter()
