"""How many tasks may wait: beyond that a submission is refused, for a line that only grows helps nobody."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.errors import Unavailable

_LOOK_EVERY = 1.0
"""Seconds that a count stands; what this process submits meanwhile is added to it."""
_RETRY_AFTER = timedelta(seconds=10)


class Admission:
    """limit: tasks that may be pending, in all queues together; None for any number, which costs nothing."""

    def __init__(self, engine: Engine, clock: Clock, limit: int | None) -> None:
        self._engine = engine
        self._clock = clock
        self._limit = limit
        self._pending = 0
        self._counted_at: float | None = None
        self._counting = asyncio.Lock()

    async def check(self, number: int) -> None:
        """Let in so many more tasks. Raises Unavailable ("queue-full")."""
        if self._limit is None:
            return
        if self._is_stale():
            async with self._counting:
                if self._is_stale():
                    await self._count()
        if self._pending + number > self._limit:
            raise Unavailable(
                f"as many tasks are pending as may be: {self._limit:,} (TASKER_MAX_PENDING)",
                name="queue-full",
                retry_after=_RETRY_AFTER,
            )
        self._pending += number

    def _is_stale(self) -> bool:
        return self._counted_at is None or self._clock.monotonic() - self._counted_at >= _LOOK_EVERY

    async def _count(self) -> None:
        lines = await self._engine.stats()
        self._pending = sum(line.pending + line.scheduled for line in lines)
        self._counted_at = self._clock.monotonic()
