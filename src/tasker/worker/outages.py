"""Pauses between tries while the store is not available."""

from __future__ import annotations

import asyncio

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
"""Seconds between tries."""


class Backoff:
    """Waits twice as long each time, until reset."""

    def __init__(self) -> None:
        self._seconds = FIRST_PAUSE

    def reset(self) -> None:
        self._seconds = FIRST_PAUSE

    async def wait(self) -> None:
        await asyncio.sleep(self._seconds)
        self._seconds = min(self._seconds * 2, LONGEST_PAUSE)
