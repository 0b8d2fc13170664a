"""The lead of a store: one row, which its holder renews.

A row and not an advisory lock: a lock belongs to a session, so a frozen process keeps it, and it cannot be held through
a pooler that lends out sessions for one transaction.
"""

from __future__ import annotations

from datetime import timedelta

from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.transaction import Connection

_LASTS = timedelta(seconds=3)
"""How long the lead lasts without a sign of life."""


class PostgresLead:
    """The Lead of the distributed engine."""

    def __init__(self, connections: Connections, queries: dict[str, str]) -> None:
        self._connections = connections
        self._queries = queries

    async def hold(self) -> bool:
        async def query(connection: Connection) -> bool:
            return bool(await connection.fetchval(self._queries["hold_lead"], self._connections.sender, _LASTS))

        # A slow answer is noticed by all processes: the next leader must not take every lease for expired.
        return await self._connections.repeat(query)

    async def give_up(self) -> None:
        await self._connections.look(
            lambda connection: connection.execute(self._queries["give_up_lead"], self._connections.sender)
        )
