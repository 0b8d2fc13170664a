"""Lists and counts of tasks, for the reader's threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import apsw

from tasker.clock import from_micros, to_micros
from tasker.engines.shared.cursors import to_cursor
from tasker.engines.shared.looks import Dialect, Look, Way, values_of
from tasker.engines.sqlite import previews
from tasker.engines.sqlite.result_files import Results
from tasker.engines.sqlite.rows import Row, task_id_of
from tasker.engines.sqlite.sql import LIST_COLUMNS
from tasker.model import Page, Task, TaskFilter
from tasker.model.control import Chosen, ChosenTask, Counted

_DIALECT = Dialect(
    schema="main",
    hint=" INDEXED BY {}",
    among="seq IN ({})",
    tagged="EXISTS (SELECT 1 FROM task_tag WHERE tag = :tag_0 AND task_tag.seq = task.seq)",
    now=":now",
    text="lower(CAST({} AS TEXT))",
    found="instr({}, :{}) > 0",
)


def find_many(
    connection: apsw.Connection, where: TaskFilter, limit: int, look: Look, now: int, results: Results
) -> Page:
    """Return one page, newest first."""
    items: list[Task] = []
    number, last = 0, 0
    for row in _rows(connection, LIST_COLUMNS, where, limit + 1, look, now):
        if number == limit:
            return Page(items=items, next_cursor=to_cursor(last))
        number, last = number + 1, row[0]
        task = previews.shown(connection, row, now, results)
        if task is not None:
            items.append(task)
    back_to = _time_at(connection, where, look.below) if look.below else None
    return Page(items=items, next_cursor=look.cursor, searched_back_to=back_to)


def choose(connection: apsw.Connection, where: TaskFilter, limit: int, look: Look, now: int) -> Chosen:
    """Return the first tasks of a look."""
    rows = list(_rows(connection, "seq, task_id, owner, queue", where, limit + 1, look, now))
    tasks = [ChosenTask(task_id_of(task_id), owner, queue) for _, task_id, owner, queue in rows[:limit]]
    return Chosen(tasks, to_cursor(rows[limit - 1][0]) if len(rows) > limit else look.cursor)


def count(connection: apsw.Connection, where: TaskFilter, look: Look, now: int, at_most: int | None = None) -> Counted:
    """Count the tasks of a look; stop after a step that finds more than `at_most`."""
    number, newest = 0, 0
    values, condition = _values(where, now), _DIALECT.condition(where)
    for way in _steps(connection, where, look, values):
        query = f"SELECT count(*), coalesce(max(seq), 0) FROM task NOT INDEXED WHERE {way.among} AND {condition}"  # noqa: S608
        more, last = connection.execute(query, values).get
        number, newest = number + more, max(newest, last)
        if at_most is not None and number > at_most:
            break
    return Counted(number, to_cursor(newest + 1) if newest else None, look.cursor)


def _rows(
    connection: apsw.Connection, columns: str, where: TaskFilter, limit: int, look: Look, now: int
) -> Iterator[Row]:
    """Yield columns of the first tasks of a look, at most `limit`."""
    values, condition = _values(where, now), _DIALECT.condition(where)
    for way in _steps(connection, where, look, values):
        chosen = f"SELECT seq FROM task NOT INDEXED WHERE {way.among} AND {condition} ORDER BY seq DESC LIMIT :limit"  # noqa: S608
        query = f"SELECT {columns} FROM task WHERE seq IN ({chosen}) ORDER BY seq DESC"  # noqa: S608
        for row in connection.execute(query, values | {"limit": limit}):
            limit -= 1
            yield row
        if not limit:
            return


def _steps(connection: apsw.Connection, where: TaskFilter, look: Look, values: dict[str, Any]) -> Iterator[Way]:
    """Yield the way of each step of a look, and set its range of seqs in `values`."""
    look.start()
    values["most"] = look.bounds.rows + 1
    opened = _DIALECT.open_query(where)
    few = opened is not None and connection.execute(opened, values).get < values["most"]
    ways, spans = _DIALECT.ways(where, few_are_open=few), _DIALECT.spans(where)
    if spans is not None:
        look.end_in(connection.execute(spans.oldest, values).get)
    while look.below:
        if spans is not None:
            values["block"] = look.block
            look.begin_in(connection.execute(spans.newest, values).get)
        values |= {"low": look.lowest, "below": look.below, "size": look.size}
        way, edge = _farthest(connection, ways, values)
        values["low"] = edge or look.lowest
        yield way
        look.went_to(edge)
        if not look.goes_on:
            return


def _farthest(connection: apsw.Connection, ways: Sequence[Way], values: dict[str, Any]) -> tuple[Way, int | None]:
    """Return the way that gets farthest back in a step, and the seq that it gets to; None for the end."""
    edges: list[tuple[int, Way]] = []
    for way in ways:
        edge = None if way.edge is None else connection.execute(way.edge, values).get
        if edge is None:
            return way, None
        edges.append((edge, way))
    edge, way = min(edges)
    return way, edge


def _time_at(connection: apsw.Connection, where: TaskFilter, seq: int) -> datetime | None:
    """Return when the task at a seq was created; for an owner, when its own next one was."""
    own = " AND owner = :owner AND owner <> ''" if where.owner else ""  # as its index has it
    query = f"SELECT created_at FROM task WHERE seq <= :seq{own} ORDER BY seq DESC LIMIT 1"  # noqa: S608
    time = connection.execute(query, {"seq": seq, "owner": where.owner}).get
    return None if time is None else from_micros(time)


def _values(where: TaskFilter, now: int) -> dict[str, Any]:
    """Return the values of the queries of a filter."""
    return values_of(where, _bound) | {"now": now}


def _bound(value: Any) -> Any:
    """Return a value as its column has it."""
    if isinstance(value, datetime):
        return to_micros(value)
    return value.bytes if isinstance(value, UUID) else value
