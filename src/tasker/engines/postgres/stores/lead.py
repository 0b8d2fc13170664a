"""The lead of a store: one row, which its holder renews.

A row and not an advisory lock: a lock belongs to a session, so a frozen process keeps it, and it cannot be held through
a pooler that lends out sessions for one transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.listener import LOCKS
from tasker.engines.postgres.notifications import lead_is_free
from tasker.engines.postgres.sql import LEAD_LASTS
from tasker.engines.postgres.transaction import Connection


class PostgresLead:
    """The Lead of the distributed engine. elapsed: returns seconds of a clock that is never set."""

    def __init__(self, connections: Connections, queries: dict[str, str], elapsed: Callable[[], float]) -> None:
        self._connections = connections
        self._queries = queries
        self._elapsed = elapsed
        self._is_ours = False
        self._has_asked = False
        self._taken_until = float("-inf")
        """The elapsed time until which another process has the lead for certain: until then nobody asks for it."""

    def saw(self, left: timedelta) -> None:
        """Note for how long another process still has the lead, as a statement of this process has just read it."""
        self._taken_until = self._elapsed() + min(left, LEAD_LASTS).total_seconds()

    async def hold(self) -> bool:
        dead = "" if self._has_asked else await self._find_dead()
        self._has_asked = True
        if not self._is_ours and not dead and await self._is_taken():
            return False
        self._is_ours = await self._run("hold_lead", dead) == "UPDATE 1"
        return self._is_ours

    async def give_up(self) -> None:
        self._is_ours = False
        self._taken_until = float("-inf")
        if await self._run("give_up_lead") == "UPDATE 1":
            await self._connections.run(lead_is_free(self._connections.sender))

    async def _find_dead(self) -> str:
        """Return the leader if it is dead, else an empty name.

        Only a process that has just started asks: after kill -9 of the only process, users need not wait for the lead.
        """
        return await self._connections.repeat(lambda c: c.fetchval(self._queries["dead_leader"], LOCKS)) or ""

    async def _is_taken(self) -> bool:
        if self._elapsed() < self._taken_until:
            return True

        async def query(connection: Connection) -> timedelta:
            left: timedelta = await connection.fetchval(self._queries["lead_left"])
            return left

        # A slow answer is noticed by all processes: the next leader must not take every lease for expired.
        left = await self._connections.repeat(query)
        self.saw(left)
        return left >= timedelta(0)

    async def _run(self, name: str, dead: str = "") -> str:
        statement = self._queries[name].replace(":holder", _quoted(self._connections.sender))
        return await self._connections.run(statement.replace(":dead", _quoted(dead or self._connections.sender)))


def _quoted(text: str) -> str:
    return f"'{text.replace(chr(39), chr(39) * 2)}'"
