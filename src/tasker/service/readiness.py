"""Whether the service can do its work."""

from __future__ import annotations

import asyncio

from msgspec import Struct

from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.errors import Unavailable

_CHECK_WITHIN = 2.0
"""Seconds that the store has for the write of a readiness check."""
_CHECK_EVERY = 1.0
"""Seconds that a good check stands: anybody may ask, and each check is a write."""


class Readiness(Struct, frozen=True):
    """Whether the service can do its work; `checks` names each part: "ok", or what is wrong.

    `checks` has `tasks` only where something could not be loaded; the service is ready all the same.
    """

    ready: bool
    checks: dict[str, str]


class StoreCheck:
    """Asks the store now and then whether it takes a durable write."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._checked_at: float | None = None

    def forget(self) -> None:
        """What a check said a moment ago no longer holds."""
        self._checked_at = None

    async def run(self) -> str:
        """Return "ok", or what is wrong."""
        now = self._clock.monotonic()
        if self._checked_at is not None and now - self._checked_at < _CHECK_EVERY:
            return "ok"
        self._checked_at = None
        try:
            async with asyncio.timeout(_CHECK_WITHIN):
                await self._engine.check()
        except Unavailable as error:
            return error.detail
        except TimeoutError:
            return f"no write was durable within {_CHECK_WITHIN:g} s"
        self._checked_at = now
        return "ok"
