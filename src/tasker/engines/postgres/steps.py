"""What becomes of times that are stored when the database's clock is set: lengths stay as long, moments stay moments.

Each process holds the database's time against the time that has elapsed; of all that see a step one follows it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import structlog

from tasker.clock import Lagging, from_micros, to_micros
from tasker.engines.postgres.connections import Connection, Connections
from tasker.engines.postgres.news import News

_TOLERANCE = timedelta(seconds=2)
"""A smaller step ends no lease and is not followed."""
_LEASE_AT_LEAST = timedelta(minutes=1)
"""How long leases last after a step, at the least: those of other processes may be longer than ours."""
_MICRO = timedelta(microseconds=1)
_log = structlog.get_logger(__name__)

EraseUntil = Callable[[Connection], Awaitable[datetime]]
"""Tells by what time to erase, as a transaction sees it."""
Transact = Callable[[Callable[[Connection, News, bool], Awaitable[Any]]], Awaitable[Any]]


class DatabaseSteps:
    """The database's clock as one process sees it. elapsed: tells seconds that go on, whatever clocks are set to."""

    def __init__(
        self, connections: Connections, queries: dict[str, str], transact: Transact, lease: timedelta,
        elapsed: Callable[[], float],
    ) -> None:  # fmt: skip
        self._connections = connections
        self._queries = queries
        self._transact = transact
        self._lease = max(lease, _LEASE_AT_LEAST)
        self._elapsed = elapsed
        self._ahead: tuple[int, int] | None = None
        self._followed = 0
        self._erasing: Lagging | None = None

    def asking(self) -> int:
        """Return the microseconds that have elapsed, to be told to `see` with the answer."""
        return round(self._elapsed() * 1_000_000)

    async def look(self) -> None:
        """Ask for the time; the first time also whether it was set back while no process ran."""
        asked = self.asking()
        row = await self._connections.look(lambda connection: connection.fetchrow(self._queries["clock"]))
        if self._ahead is None and row["seen_at"] - row["now"] > _TOLERANCE:
            await self._follow(row["now"] - row["seen_at"], row["steps"])
        else:
            await self.see(asked, row["now"], row["steps"])

    async def see(self, asked: int, now: datetime, steps: int) -> bool:
        """Hear the database's time, which was asked for at `asked`; return whether it was set, and is followed now.

        steps: how many steps were followed by then.
        """
        told, shown = self.asking(), to_micros(now)
        low, high = shown - told, shown - asked
        step, tolerance = 0, _TOLERANCE // _MICRO
        if self._ahead is not None and steps == self._followed:
            if low - self._ahead[1] > tolerance:
                step = low - self._ahead[1]
            elif self._ahead[0] - high > tolerance:
                step = high - self._ahead[0]
        if step:
            await self._follow(step * _MICRO, steps)
            self._ahead = None  # it may have been followed by another: the next look begins anew
        else:
            self._ahead, self._followed = (low, high), steps
        return step != 0

    async def keep(self, connection: Connection) -> None:
        """Store that the database's clock shows what it shows."""
        await connection.execute(self._queries["clock_seen"])

    async def erase_until(self, connection: Connection) -> datetime:
        """Return by what time to erase now, and store it for the next process."""
        row = await connection.fetchrow(self._queries["clock"])
        elapsed, known = self.asking(), to_micros(row["erased_until"])
        if self._erasing is None:
            self._erasing = Lagging(elapsed, known)
        until = from_micros(self._erasing.tell(to_micros(row["now"]), elapsed, at_least=known))
        await connection.execute(self._queries["erased_until"], until)
        return until

    async def _follow(self, step: timedelta, steps: int) -> None:
        async def work(connection: Connection, _news: News, _again: bool) -> bool:
            if await connection.fetchval(self._queries["clock_was_set"], steps, step, _TOLERANCE) is None:
                return False
            if step < timedelta(0):
                await connection.execute(self._queries["stay_due"], step)
                await connection.execute(self._queries["stay_due_deliveries"], step)
            for query in ("move_waits", "move_deliveries", "move_refills", "move_signs_of_life"):
                await connection.execute(self._queries[query], step)
            await connection.execute(self._queries["renew_leases"], self._lease)
            return True

        if await self._transact(work):
            _log.warning("clock.was_set", seconds=step.total_seconds(), whose="the database's")
