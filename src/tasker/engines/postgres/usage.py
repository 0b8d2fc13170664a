"""Usage in the distributed engine: rows of every process, summed when they are read."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias

from tasker.engines.postgres.connections import Connection, Connections
from tasker.engines.usage import Tally
from tasker.model.usage import COUNTED, Group, UsageFilter, UsageRow

OwnerTally: TypeAlias = Tally[tuple[str, str]]
"""By owner and type; the day is the database's."""


async def write(connection: Connection, queries: dict[str, str], writer: str, tally: OwnerTally) -> None:
    """Add the sums to the rows of `writer`: a process that does so in one transaction at a time waits for nobody."""
    rows = tally.take()
    if rows:
        await connection.execute(queries["add_usage"], writer, *(list(column) for column in zip(*rows, strict=True)))


class PostgresUsage:
    """Implements `UsageBook`, on the tables of one schema."""

    def __init__(self, connections: Connections, queries: dict[str, str]) -> None:
        self._connections = connections
        self._queries = queries

    async def find_many(self, where: UsageFilter, *, group: Collection[Group], limit: int) -> list[UsageRow]:
        values = where.first, where.last, where.owner, where.type, "day" in group, "owner" in group, "type" in group
        rows = await self._connections.read(
            lambda connection: connection.fetch(self._queries["find_usage"], *values, limit)
        )
        return [_row_of(*row.values()) for row in rows]

    async def spent_today(self, owner: str) -> int:
        nanos: int = await self._connections.read(
            lambda connection: connection.fetchval(self._queries["spent_today"], owner)
        )
        return nanos


def _row_of(day: object, owner: object, type_: object, *figures: object) -> UsageRow:
    return UsageRow(day=day, owner=owner, type=type_, **dict(zip(COUNTED, figures, strict=True)))  # type: ignore[arg-type]
