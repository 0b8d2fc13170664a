"""Usage in the distributed engine: rows of every process, summed when they are read."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import Any

from msgspec import structs

from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.transaction import Connection
from tasker.engines.shared.tables import USAGE
from tasker.model.usage import COUNTED, DayUsage, Group, UsageFilter, UsageRow, name_of


class PostgresUsage:
    """Implements `UsageStore`, on the tables of one schema."""

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


class UsageTable:
    """Usage for an archive, with what a `Table` offers it: the sums over all processes."""

    shape = USAGE

    def __init__(self, queries: dict[str, str]) -> None:
        self._queries = queries

    async def find(self, connection: Connection, key: str) -> DayUsage | None:
        day, type_, owner = key.split(" ", 2)
        moment = date.fromisoformat(day)
        found = await self._rows(connection, moment, moment, owner, type_)
        return found[0] if found else None

    async def find_all(self, connection: Connection) -> list[DayUsage]:
        return await self._rows(connection, date.min, date.max, None, None)

    async def _rows(self, connection: Connection, *where: Any) -> list[DayUsage]:
        rows = await connection.fetch(self._queries["find_usage"], *where, True, True, True, None)
        found = [_row_of(*row.values()) for row in rows]
        return [DayUsage(name=name_of(row), row=row) for row in found]

    async def insert(self, connection: Connection, value: DayUsage) -> bool:
        """Store a row; False, and no change, where there is one of that day, owner and type."""
        done: str = await connection.execute(self._queries["put_usage"], *structs.astuple(value.row))
        return done.endswith(" 1")


def _row_of(day: object, owner: object, type_: object, *figures: object) -> UsageRow:
    return UsageRow(day=day, owner=owner, type=type_, **dict(zip(COUNTED, figures, strict=True)))  # type: ignore[arg-type]
