"""What becomes of times that are stored when the database's clock is set: lengths stay as long, moments stay moments.

Each process holds the database's time against the time that has elapsed; of all that see a step one follows it: it
notes what is to be moved, and from then on every process moves a batch after the other. What waits is held until all is
done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog

from tasker.clock import Lagging, from_micros, to_micros
from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.transaction import Transaction
from tasker.errors import Unavailable

_TOLERANCE = timedelta(seconds=2)
"""A smaller step ends no lease and is not followed."""
_LEASE_AT_LEAST = timedelta(minutes=1)
"""How long leases last after a step, at the least: those of other processes may be longer than ours."""
BATCH = 5000
"""Rows that one transaction moves."""
_NOTED_WITHIN = 60
"""Seconds that it may take to note what is to be moved: a plain read and write, but of everything that waits."""
_MICRO = timedelta(microseconds=1)
_log = structlog.get_logger(__name__)

EraseUntil = Callable[[Transaction], Awaitable[datetime]]
"""Tells by what time to erase, as a transaction sees it."""


class DatabaseSteps:
    """The database's clock as one process sees it. elapsed: tells seconds that go on, whatever clocks are set to."""

    def __init__(
        self, connections: Connections, queries: dict[str, str], lease: timedelta,
        elapsed: Callable[[], float],
    ) -> None:  # fmt: skip
        self._connections = connections
        self._queries = queries
        self._lease = max(lease, _LEASE_AT_LEAST)
        self._elapsed = elapsed
        self._ahead: tuple[int, int] | None = None
        self._followed = 0
        self._erasing: Lagging | None = None
        self._is_following = False
        self._moving: asyncio.Task[None] | None = None

    def asking(self) -> int:
        """Return the microseconds that have elapsed, to be told to `see` with the answer."""
        return round(self._elapsed() * 1_000_000)

    async def look(self) -> None:
        """Ask for the time; the first time also whether it was set back while no process ran."""
        asked = self.asking()
        row = await self._connections.look(lambda connection: connection.fetchrow(self._queries["clock"]))
        if self._ahead is None and row["seen_at"] - row["now"] > _TOLERANCE:
            if await self._follow(row["now"] - row["seen_at"], row["steps"]) is None:
                await self._follow(row["now"] - row["seen_at"], row["steps"])
        elif not await self.see(asked, row["now"], row["steps"]) and row["is_moving"]:
            await self._move_all()

    async def see(self, asked: int, now: datetime, steps: int) -> bool:
        """Hear the database's time, which was asked for at `asked`; return whether it was set.

        Then what waits is held until a look tells that nothing is being moved. If the step cannot be followed now, the
        next look sees it again: claims of what is in line go on. steps: how many steps were followed by then.
        """
        told, shown = self.asking(), to_micros(now)
        low, high = shown - told, shown - asked
        step, tolerance = 0, _TOLERANCE // _MICRO
        if self._ahead is not None and steps == self._followed:
            if low - self._ahead[1] > tolerance:
                step = low - self._ahead[1]
            elif self._ahead[0] - high > tolerance:
                step = high - self._ahead[0]
        if not step:
            self._ahead, self._followed = (low, high), steps
        elif not self._is_following:
            self._is_following = True
            try:
                followed = await self._follow(step * _MICRO, steps)
                if followed:
                    self._ahead, self._followed = (low, high), steps + 1
                elif followed is False:
                    self._ahead = None  # another may have followed it: the next look begins anew
            except Unavailable as error:
                _log.warning("clock.not_followed", seconds=step / 1_000_000, reason=error.detail)
            finally:
                self._is_following = False
        return step != 0

    def move_on(self) -> None:
        """See to it that what is to be moved is, while others go on."""
        if self._moving is None or self._moving.done():
            self._moving = asyncio.create_task(self._move_all())

    async def close(self) -> None:
        """Stop moving: what is left is moved by the next process."""
        if self._moving is not None:
            self._moving.cancel()
            await asyncio.wait([self._moving])

    async def keep(self, tx: Transaction) -> None:
        """Store that the database's clock shows what it shows."""
        await tx.execute(self._queries["clock_seen"])

    async def erase_until(self, tx: Transaction) -> datetime:
        """Return by what time to erase now, and store it for the next process."""
        row = await tx.fetchrow(self._queries["clock"])
        elapsed, known = self.asking(), to_micros(row["erased_until"])
        if self._erasing is None:
            self._erasing = Lagging(elapsed, known)
        until = from_micros(self._erasing.tell(to_micros(row["now"]), elapsed, at_least=known))
        await tx.execute(self._queries["erased_until"], until)
        return until

    async def _follow(self, step: timedelta, steps: int) -> bool | None:
        """Follow a step; return whether it was ours to follow, None if one before it was not at its end yet."""

        async def work(tx: Transaction) -> bool | None:
            if await tx.fetchval(self._queries["clock_was_set"], steps, step, _TOLERANCE) is None:
                is_moving: bool = (await tx.fetchrow(self._queries["clock"]))["is_moving"]
                return None if is_moving else False
            await tx.execute(f"SET LOCAL statement_timeout = '{_NOTED_WITHIN}s'")
            await tx.execute(self._queries["note_moves"], step, timeout=_NOTED_WITHIN + 1)
            for query in ("move_refills", "move_signs_of_life"):
                await tx.execute(self._queries[query], step)
            await tx.execute(self._queries["renew_leases"], self._lease)
            return True

        followed: bool | None = await self._connections.transact(work)
        if followed:
            _log.warning("clock.was_set", seconds=step.total_seconds(), whose="the database's")
        await self._move_all()
        return followed

    async def _move_all(self) -> None:
        """Move a batch after the other, each in a transaction of its own."""
        try:
            for query in ("move_tasks", "move_deliveries"):
                while await self._move(query) == BATCH:
                    pass
            await self._connections.transact(lambda tx: tx.execute(self._queries["clock_followed"]))
        except Unavailable as error:  # what has been moved is stored, and the next look goes on
            _log.warning("clock.not_followed", reason=error.detail)

    async def _move(self, query: str) -> int:
        async def work(tx: Transaction) -> int:
            moved: int = await tx.fetchval(self._queries[query], BATCH)
            return moved

        moved: int = await self._connections.transact(work)
        return moved
