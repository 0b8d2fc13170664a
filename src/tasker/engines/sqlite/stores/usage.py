"""Usage in the embedded engine: read from its one table."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, timedelta

import apsw
from msgspec import structs

from tasker.clock import Clock, to_micros
from tasker.engines.shared.tables import USAGE
from tasker.engines.sqlite.reader import Reader
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.transaction import day_of
from tasker.model.usage import COUNTED, EVER, GROUPS, DayUsage, Group, UsageFilter, UsageRow, name_of

_EPOCH = date(1970, 1, 1)


class SqliteUsage:
    """Implements `UsageStore`. read: runs a query beside the writer."""

    def __init__(self, clock: Clock, read: Reader) -> None:
        self._clock = clock
        self._read = read

    async def find_many(self, where: UsageFilter, *, group: Collection[Group], limit: int) -> list[UsageRow]:
        return await self._read(_find_many, where, frozenset(group), limit)

    async def spent_today(self, owner: str) -> int:
        return await self._read(_spent_on, day_of(to_micros(self._clock.now())), owner)


class UsageTable:
    """Usage for an archive, with what a `Table` offers it."""

    shape = USAGE

    def find(self, connection: apsw.Connection, key: str) -> DayUsage | None:
        day, type_, owner = key.split(" ", 2)
        where = UsageFilter(first=date.fromisoformat(day), last=date.fromisoformat(day), owner=owner, type=type_)
        rows = _find_many(connection, where, frozenset(GROUPS), 1)
        return DayUsage(name=key, row=rows[0]) if rows else None

    def find_all(self, connection: apsw.Connection) -> list[DayUsage]:
        rows = _find_many(connection, EVER, frozenset(GROUPS), -1)
        return [DayUsage(name=name_of(row), row=row) for row in rows]

    def insert(self, connection: apsw.Connection, value: DayUsage) -> None:
        day, owner, type_, *figures = structs.astuple(value.row)
        connection.execute(QUERIES["insert_usage"], ((day - _EPOCH).days, owner, type_, *figures))


def _find_many(connection: apsw.Connection, where: UsageFilter, group: frozenset[Group], limit: int) -> list[UsageRow]:
    values = {
        "first": (where.first - _EPOCH).days, "last": (where.last - _EPOCH).days, "owner": where.owner,
        "type": where.type, "limit": limit, **{f"by_{name}": name in group for name in ("day", "owner", "type")},
    }  # fmt: skip
    return [_row_of(*row) for row in connection.execute(QUERIES["find_usage"], values)]


def _row_of(day: int | None, owner: str | None, type_: str | None, *figures: int) -> UsageRow:
    moment = None if day is None else _EPOCH + timedelta(days=day)
    return UsageRow(day=moment, owner=owner, type=type_, **dict(zip(COUNTED, figures, strict=True)))


def _spent_on(connection: apsw.Connection, day: int, owner: str) -> int:
    nanos: int = connection.execute(QUERIES["spent_on"], (day, owner)).get
    return nanos
