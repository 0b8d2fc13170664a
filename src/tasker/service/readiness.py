"""The use case of readiness: whether the service can do its work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from msgspec import Struct

from tasker.clock import Clock
from tasker.errors import Unavailable
from tasker.model import PartitionStats
from tasker.service.hub import Hub
from tasker.service.queues import Queues
from tasker.tasktypes.registry import Registry

Health = Callable[[list[PartitionStats]], dict[str, str]]
"""Takes the open tasks; returns the state of each part of the worker by name: "ok", or what is wrong."""
_CHECK_WITHIN = 2.0
"""Seconds that the store has for the write of a readiness check."""
_CHECK_EVERY = 1.0
"""Seconds for which a good result is used: anybody may ask, and each check is a write."""


class Readiness(Struct, frozen=True):
    """Whether the service can do its work; `checks` names each part: "ok", or what is wrong.

    `checks` has `tasks` only if something could not be loaded; the service is ready all the same.
    """

    ready: bool
    checks: dict[str, str]


class StoreCheck:
    """Checks now and then whether the store takes a durable write. check: Engine.check."""

    def __init__(self, check: Callable[[], Awaitable[None]], clock: Clock) -> None:
        self._check = check
        self._clock = clock
        self._checked_at: float | None = None

    def forget(self) -> None:
        """Drop the last result: it no longer holds."""
        self._checked_at = None

    async def run(self) -> str:
        """Return "ok", or what is wrong."""
        now = self._clock.monotonic()
        if self._checked_at is not None and now - self._checked_at < _CHECK_EVERY:
            return "ok"
        self._checked_at = None
        try:
            async with asyncio.timeout(_CHECK_WITHIN):
                await self._check()
        except Unavailable as error:
            return error.detail
        except TimeoutError:
            return f"no write was durable within {_CHECK_WITHIN:g} s"
        self._checked_at = now
        return "ok"


@dataclass(frozen=True)
class ReadinessCheck:
    """Checks whether this process can do its work. health: that of its worker; None without one."""

    store_check: StoreCheck
    queues: Queues
    registry: Registry
    hub: Hub
    health: Health | None

    async def run(self) -> Readiness:
        """Check that the store takes writes, and that this process's worker, if any, lives and keeps up."""
        checks = {"store": await self.store_check.run()}
        if checks["store"] == "ok" and self.health is not None:
            limited = await self.queues.settings()  # tasks there may wait for a limit: the worker is not behind
            checks |= self.health([stats for stats in await self.queues.stats() if stats.queue not in limited])
        if self.hub.closed:
            checks["service"] = "stopping"
        is_ready = all(state == "ok" for state in checks.values())
        if faults := self.registry.faults:  # the other types run, so clients may still be sent here
            checks["tasks"] = "not loaded: " + "; ".join(fault.detail for fault in faults)
        return Readiness(is_ready, checks)
