"""Adjust stored times when the database's clock is set: durations keep their length, and moments stay as they are.

Each process compares the database's time with the elapsed time. Many see a step, and one of them follows it: it records
which rows to move. Then every process moves them, batch by batch. Waiting tasks are held back until all are moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog

from tasker.clock import MICROSECOND, Lagging, from_micros, to_micros
from tasker.engines.postgres.clock import DatabaseClock
from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.transaction import Transaction
from tasker.errors import Unavailable

_TOLERANCE = timedelta(seconds=2)
"""Smaller steps are ignored: they end no lease."""
_LEASE_AT_LEAST = timedelta(minutes=1)
"""Minimum lease after a step: the leases of other processes may be longer than ours."""
BATCH = 5000
"""Rows that one transaction moves."""
_RECORDED_WITHIN = 60
"""Time limit in seconds of the statement that records which rows to move: it reads every waiting row."""
_log = structlog.get_logger(__name__)

EraseUntil = Callable[[Transaction], Awaitable[datetime]]
"""Returns the time before which expired rows may be erased, as a transaction sees it."""


class DatabaseSteps:
    """The database's clock as one process sees it.

    clock: is set by each answer. elapsed: returns seconds of a clock that is never set.
    """

    def __init__(
        self,
        connections: Connections,
        queries: dict[str, str],
        lease: timedelta,
        elapsed: Callable[[], float],
        clock: DatabaseClock,
    ) -> None:
        self._clock = clock
        self._seen_at = float("-inf")
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
        """Return the elapsed time in microseconds: call before asking for the time, and pass it to `see` as `asked`."""
        return round(self._elapsed() * 1_000_000)

    async def look_if_old(self, age: timedelta) -> None:
        """Ask for the time, unless an answer is younger than `age`."""
        if self._elapsed() - self._seen_at >= age.total_seconds():
            await self.look()

    async def look(self) -> None:
        """Ask for the time; on the first call also whether the clock was set back while no process ran."""
        asked = self.asking()
        row = await self._connections.look(lambda connection: connection.fetchrow(self._queries["clock"]))
        if self._erasing is None:  # at the start: time that passes from now on is no jump
            self._erasing = Lagging(asked, to_micros(row["erased_until"]))
        if self._ahead is None and row["seen_at"] - row["now"] > _TOLERANCE:
            if await self._follow(row["now"] - row["seen_at"], row["steps"]) is None:
                await self._follow(row["now"] - row["seen_at"], row["steps"])
        elif not await self.see(asked, row["now"], row["steps"]) and row["is_moving"]:
            await self._move_all()

    async def see(self, asked: int, now: datetime, steps: int) -> bool:
        """Compare the database's time, asked for at `asked`, with the elapsed time; return whether its clock was set.

        If so, waiting tasks are held back until a look finds that no rows are left to move. A step that cannot be
        followed now is seen again by the next look; claims of queued tasks go on. steps: the number of steps that all
        processes have followed.
        """
        answered, shown = self.asking(), to_micros(now)
        self._seen_at = answered / 1_000_000
        self._clock.set(now, (answered - asked) / 2_000_000)
        low, high = shown - answered, shown - asked
        step = self._step_to(low, high) if steps == self._followed else 0
        if not step:
            self._ahead, self._followed = (low, high), steps
        elif not self._is_following:
            self._is_following = True
            try:
                followed = await self._follow(step * MICROSECOND, steps)
                if followed:
                    self._ahead, self._followed = (low, high), steps + 1
                elif followed is False:
                    self._ahead = None  # another process may have followed it: the next look starts over
            except Unavailable as error:
                _log.warning("clock.not_followed", seconds=step / 1_000_000, reason=error.detail)
            finally:
                self._is_following = False
        return step != 0

    def _step_to(self, low: int, high: int) -> int:
        """Return the step in microseconds, from bounds of the database clock's lead over elapsed time; 0 for none."""
        tolerance = _TOLERANCE // MICROSECOND
        if self._ahead is None:
            return 0
        if low - self._ahead[1] > tolerance:
            return low - self._ahead[1]
        return high - self._ahead[0] if self._ahead[0] - high > tolerance else 0

    def move_on(self) -> None:
        """Move recorded rows in the background."""
        if self._moving is None or self._moving.done():
            self._moving = asyncio.create_task(self._move_all())

    async def close(self) -> None:
        """Stop moving: other processes move the rest."""
        if self._moving is not None:
            self._moving.cancel()
            await asyncio.wait([self._moving])

    async def keep(self, tx: Transaction) -> None:
        """Store the time that the database's clock shows."""
        await tx.execute(self._queries["clock_seen"])

    async def erase_until(self, tx: Transaction) -> datetime:
        """Return the time before which expired rows may be erased, and store it for the next process."""
        row = await tx.fetchrow(self._queries["clock"])
        elapsed, known = self.asking(), to_micros(row["erased_until"])
        assert self._erasing is not None, "the engine looks at the clock when it opens"
        until = from_micros(self._erasing.tell(to_micros(row["now"]), elapsed, at_least=known))
        await tx.execute(self._queries["erased_until"], until)
        return until

    async def _follow(self, step: timedelta, steps: int) -> bool | None:
        """Follow a step; return whether this process did, or None if the step before it is still being followed."""

        async def work(tx: Transaction) -> bool | None:
            if await tx.fetchval(self._queries["clock_was_set"], steps, step, _TOLERANCE) is None:
                is_moving: bool = (await tx.fetchrow(self._queries["clock"]))["is_moving"]
                return None if is_moving else False
            await tx.execute(f"SET LOCAL statement_timeout = '{_RECORDED_WITHIN}s'")
            await tx.execute(self._queries["note_moves"], step, timeout=_RECORDED_WITHIN + 1)
            for query in ("move_steps", "move_refills", "move_signs_of_life"):
                await tx.execute(self._queries[query], step)
            await tx.execute(self._queries["renew_leases"], self._lease)
            return True

        followed: bool | None = await self._connections.transact(work)
        if followed:
            _log.warning("clock.was_set", seconds=step.total_seconds(), whose="the database's")
        await self._move_all()
        return followed

    async def _move_all(self) -> None:
        """Move recorded rows batch by batch, each in a transaction of its own."""
        try:
            for query in ("move_tasks", "move_deliveries"):
                while await self._move(query) == BATCH:
                    pass
            await self._connections.transact(lambda tx: tx.execute(self._queries["clock_followed"]))
        except Unavailable as error:  # moved batches are stored, and the next look goes on
            _log.warning("clock.not_followed", reason=error.detail)

    async def _move(self, query: str) -> int:
        async def work(tx: Transaction) -> int:
            moved: int = await tx.fetchval(self._queries[query], BATCH)
            return moved

        moved: int = await self._connections.transact(work)
        return moved
