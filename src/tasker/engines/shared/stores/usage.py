"""The UsageStore, and usage in archives."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import Any

from msgspec import structs

from tasker.engines.shared.rows import Database, Rows
from tasker.engines.shared.tables import USAGE_ROWS
from tasker.model.usage import EVER, GROUPS, DayUsage, Group, UsageFilter, UsageRow, name_of


class Usage:
    """Usage of attempts by day, owner and type; the engines count it when they end attempts."""

    def __init__(self, database: Database[Any]) -> None:
        self._database = database

    async def find_many(self, where: UsageFilter, *, group: Collection[Group], limit: int) -> list[UsageRow]:
        return await self._database.read(lambda rows: _find_many(rows, where, group, limit))

    async def spent_today(self, owner: str) -> int:
        return await self._database.read(lambda rows: rows.count("spent_today", owner=owner))


async def find_usage(rows: Rows, name: str) -> DayUsage | None:
    """Return the archive record of this name, or None."""
    day, type_, owner = name.split(" ", 2)
    moment = date.fromisoformat(day)
    found = await _find_many(rows, UsageFilter(first=moment, last=moment, owner=owner, type=type_), GROUPS, 1)
    return DayUsage(name=name, row=found[0]) if found else None


async def find_all_usage(rows: Rows) -> list[DayUsage]:
    """Return all records of usage for an archive."""
    return [DayUsage(name=name_of(row), row=row) for row in await _find_many(rows, EVER, GROUPS, _ALL)]


async def insert_usage(rows: Rows, value: DayUsage) -> bool:
    """Store a record of an archive. False, and no change, if its day, owner and type have one."""
    return await rows.run("put_usage", **structs.asdict(value.row)) > 0


async def _find_many(rows: Rows, where: UsageFilter, group: Collection[Group], limit: int) -> list[UsageRow]:
    by = {f"by_{name}": name in group for name in GROUPS}
    return await rows.structs("find_usage", USAGE_ROWS, **structs.asdict(where), **by, limit=limit)


_ALL = 1 << 62
"""A limit higher than any number of rows."""
