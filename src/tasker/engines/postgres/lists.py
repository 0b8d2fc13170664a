"""Lists and counts of tasks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any

import asyncpg

from tasker.engines.postgres.rows import listed_task_of
from tasker.engines.postgres.tables import numbered
from tasker.engines.postgres.transaction import Connection
from tasker.engines.shared.cursors import to_cursor
from tasker.engines.shared.looks import Bounds, Dialect, Look, Way, count_of, for_counts, values_of
from tasker.model import Page, TaskCount, TaskFilter
from tasker.model.control import Chosen, ChosenTask, Counted


class Lists:
    """The lists, on the tables of one schema."""

    def __init__(self, queries: dict[str, str], schema: str, bounds: Bounds) -> None:
        self._queries = queries
        self._task = f"{schema}.task"
        self._bounds = bounds
        self._dialect = Dialect(
            schema=schema,
            hint="",
            among="seq = ANY(ARRAY({}))",
            tagged="tags @> ARRAY[:tag_0]::text[]",
            now="now()",
            text="lower(convert_from({}, 'UTF8') COLLATE \"C\")",
            found="strpos({}, :{}) > 0",
        )

    async def find_many(self, connection: Connection, where: TaskFilter, limit: int, cursor: str | None) -> Page:
        """Return one page, newest first."""
        look = Look.after(cursor, self._bounds, limit)
        found = [row["seq"] for row in await self._rows(connection, "seq", where, limit + 1, look)]
        rows = await connection.fetch(self._queries["listed_by_seq"], found[:limit]) if found else []
        items = [listed_task_of(row) for row in rows]
        if len(found) > limit:
            return Page(items=items, next_cursor=to_cursor(found[limit - 1]))
        back_to = await self._time_at(connection, where, look.below) if look.below else None
        return Page(items=items, next_cursor=look.cursor, searched_back_to=back_to)

    async def choose(self, connection: Connection, where: TaskFilter, limit: int, cursor: str | None) -> Chosen:
        """Return the first tasks behind a cursor."""
        look = Look.after(cursor, self._bounds, limit)
        rows = await self._rows(connection, "seq, task_id, owner, queue", where, limit + 1, look)
        tasks = [ChosenTask(row["task_id"], row["owner"], row["queue"]) for row in rows[:limit]]
        return Chosen(tasks, to_cursor(rows[limit - 1]["seq"]) if len(rows) > limit else look.cursor)

    async def count(self, connection: Connection, where: TaskFilter, cursor: str | None) -> Counted:
        """Count the tasks behind a cursor."""
        return await self._count(connection, where, Look.after(cursor, self._bounds), None)

    async def count_up_to(self, connection: Connection, where: TaskFilter, at_most: int) -> TaskCount:
        """Count all tasks of a filter, as far as one look gets."""
        look = Look.after(None, for_counts(self._bounds))
        return count_of(await self._count(connection, where, look, at_most), at_most)

    async def _count(self, connection: Connection, where: TaskFilter, look: Look, at_most: int | None) -> Counted:
        """Count the tasks of a look; stop after a step that finds more than `at_most`."""
        number, newest, values = 0, 0, _values(where)
        async for way in self._steps(connection, where, look, values):
            query = (
                f"SELECT count(*), coalesce(max(seq), 0) FROM {self._task}"  # noqa: S608
                f" WHERE {way.among} AND {self._dialect.condition(where)}"
            )
            [(more, last)] = await _fetch(connection, query, values)
            number, newest = number + more, max(newest, last)
            if at_most is not None and number > at_most:
                break
        return Counted(number, to_cursor(newest + 1) if newest else None, look.cursor)

    async def _rows(
        self, connection: Connection, columns: str, where: TaskFilter, limit: int, look: Look
    ) -> list[asyncpg.Record]:
        """Return columns of the first tasks of a look, at most `limit`."""
        found: list[asyncpg.Record] = []
        values, condition = _values(where), self._dialect.condition(where)
        async with aclosing(self._steps(connection, where, look, values)) as steps:
            async for way in steps:
                query = (
                    f"SELECT {columns} FROM {self._task} WHERE {way.among} AND {condition}"  # noqa: S608
                    " ORDER BY seq DESC LIMIT :limit"
                )
                found += await _fetch(connection, query, values | {"limit": limit - len(found)})
                if len(found) == limit:
                    break
        return found

    async def _steps(
        self, connection: Connection, where: TaskFilter, look: Look, values: dict[str, Any]
    ) -> AsyncGenerator[Way, None]:
        """Yield the way of each step of a look, and set its range of seqs in `values`."""
        look.start()
        values["most"] = most = look.bounds.rows + 1
        opened = self._dialect.open_query(where)
        few = opened is not None and await _first(connection, opened, values) < most
        ways, spans = self._dialect.ways(where, few_are_open=few), self._dialect.spans(where)
        if spans is not None:
            look.end_in(await _first(connection, spans.oldest, values))
        while look.below:
            if spans is not None:
                values["block"] = look.block
                look.begin_in(await _first(connection, spans.newest, values))
            values |= {"low": look.lowest, "below": look.below, "size": look.size}
            way, edge = await _farthest(connection, ways, values)
            values["low"] = edge or look.lowest
            yield way
            look.went_to(edge)
            if not look.goes_on:
                return

    async def _time_at(self, connection: Connection, where: TaskFilter, seq: int) -> datetime | None:
        """Return when the task at a seq was created; for an owner, when its own next one was."""
        own = " AND owner = :owner AND owner <> ''" if where.owner else ""
        query = f"SELECT created_at FROM {self._task} WHERE seq <= :seq{own} ORDER BY seq DESC LIMIT 1"  # noqa: S608
        time: datetime | None = await _first(connection, query, {"seq": seq, "owner": where.owner})
        return time


async def _farthest(connection: Connection, ways: Sequence[Way], values: dict[str, Any]) -> tuple[Way, int | None]:
    """Return the way that gets farthest back in a step, and the seq that it gets to; None for the end."""
    edges: list[tuple[int, Way]] = []
    for way in ways:
        edge = None if way.edge is None else await _first(connection, way.edge, values)
        if edge is None:
            return way, None
        edges.append((edge, way))
    edge, way = min(edges)
    return way, edge


async def _fetch(connection: Connection, query: str, values: dict[str, Any]) -> list[asyncpg.Record]:
    statement, names = numbered(query)
    rows: list[asyncpg.Record] = await connection.fetch(statement, *[values[name] for name in names])
    return rows


async def _first(connection: Connection, query: str, values: dict[str, Any]) -> Any:
    """Return the first column of the first row; None if there is no row."""
    rows = await _fetch(connection, query, values)
    return rows[0][0] if rows else None


def _values(where: TaskFilter) -> dict[str, Any]:
    """Return the values of the queries of a filter."""
    return values_of(where, _as_it_is)


def _as_it_is(value: Any) -> Any:
    return value
