"""Reads: single rows on the event loop, scans in the reader's thread, each on its own connection."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

import apsw
from msgspec import Raw, structs

from tasker.clock import from_micros
from tasker.engines.shared.cursors import from_cursor, to_cursor
from tasker.engines.shared.log import Entry, Head, merge
from tasker.engines.shared.sql import join_terms
from tasker.engines.shared.stats import partition_stats
from tasker.engines.shared.values import PAGE_BYTES, encode, size_of
from tasker.engines.sqlite.result_files import Results, is_reference, lost
from tasker.engines.sqlite.rows import (
    PARKED,
    Row,
    attempt_of,
    claim_of,
    event_of,
    is_over,
    optional_micros,
    task_id_of,
    task_of,
)
from tasker.engines.sqlite.sql import EXPIRES_AT, QUERIES, TASK_COLUMNS
from tasker.model import Attempt, Claim, Event, Page, PartitionStats, RunningAttempt, Status, Task, TaskFilter


def find(connection: apsw.Connection, task_id: UUID, now: int) -> Task | None:
    """Return the task, or None."""
    row = connection.execute(QUERIES["task_by_id"], (task_id.bytes,)).fetchone()
    return None if row is None or is_over(row[EXPIRES_AT], now) else task_of(row, now)


def find_whole(connection: apsw.Connection, task_id: UUID, now: int, results: Results) -> Task | None:
    """Return the task, or None, with its result even if that has a file. Not for the event loop."""
    task = find(connection, task_id, now)
    return None if task is None else _loaded(connection, task, now, results)


def find_many(
    connection: apsw.Connection, where: TaskFilter, limit: int, cursor: str | None, now: int, results: Results
) -> Page:
    """Return one page, newest first."""
    query, values = page_query(TASK_COLUMNS, where, cursor, now, limit + 1)
    items: list[Task] = []
    left, number, last = PAGE_BYTES, 0, 0
    rows: Iterable[Row] = connection.execute(query, values)
    for row in rows:
        task = _loaded(connection, task_of(row, now), now, results) if number < limit else None
        left -= 0 if task is None else size_of(task)
        if number == limit or (items and left < 0):
            return Page(items=items, next_cursor=to_cursor(last))
        number, last = number + 1, row[0]
        if task is not None:
            items.append(task)
    return Page(items=items, next_cursor=None)


def page_query(columns: str, where: TaskFilter, cursor: str | None, now: int, limit: int) -> tuple[str, list[Any]]:
    """Return a query for columns of the first tasks after a cursor, newest first, and its values."""
    condition, values = _condition(where, cursor, now, limit)
    statuses = where.status or tuple(Status)
    if all(status in _INDEX_OF for status in statuses):
        # Only a few of many tasks have these statuses: each status has its own index, and the few results are sorted.
        each = [
            _NEWEST.format(
                index=_INDEX_OF[status],
                status=status.value,
                condition=condition,
                alive=_ALIVE if status.is_terminal else "1",
            )
            for status in statuses
        ]
        condition = f"seq IN ({' UNION ALL '.join(each)})"
    else:
        names = ", ".join(f"'{status.value}'" for status in where.status)
        condition = f"{f'status IN ({names})' if names else '1'} AND {condition} AND {_ALIVE}"
    return f"SELECT {columns} FROM task WHERE {condition} ORDER BY seq DESC LIMIT ?2", values  # noqa: S608


def _loaded(connection: apsw.Connection, task: Task, now: int, results: Results) -> Task | None:
    """Return a task with its result, or without if the result's file is lost; None if the task was erased meanwhile."""
    if not is_reference(task.result):
        return task
    reference = bytes(task.result or b"")
    text = results.find(reference)
    if text is None:
        if find(connection, task.task_id, now) is None:
            return None
        lost(reference)
    return structs.replace(task, result=None if text is None else Raw(text))


def count_query(where: TaskFilter, now: int) -> tuple[str, list[Any]]:
    """Return a query for the number of a filter's tasks and the seq of the newest, and its values."""
    condition, values = _condition(where, None, now, 0)
    each = [
        _COUNTED.format(
            index=_BY_INDEX.get(status, ""),
            status=status.value,
            condition=condition,
            alive=_ALIVE if status.is_terminal else "1",
        )
        for status in where.status or tuple(Status)
    ]
    # The last condition only names values: a query must use every value that it is given, and the rest may not.
    query = f"SELECT sum(number), max(newest) FROM ({' UNION ALL '.join(each)}) WHERE ?1 + ?2 IS NOT NULL"  # noqa: S608
    return query, values


_INDEX_OF = {
    Status.PENDING: "task_line",
    Status.RUNNING: "task_running",
    Status.FAILED: "task_failed",
    Status.CANCELLED: "task_cancelled",
}
_ALIVE = "(expires_at IS NULL OR expires_at > ?1)"
_BY_INDEX = {status: f"INDEXED BY {index}" for status, index in _INDEX_OF.items()}
_COUNTED = (
    "SELECT count(*) AS number, max(seq) AS newest FROM task {index}"
    " WHERE status = '{status}' AND {condition} AND {alive}"
)
_NEWEST = (
    "SELECT seq FROM (SELECT seq FROM task INDEXED BY {index} WHERE status = '{status}' AND {condition} AND {alive}"
    " ORDER BY seq DESC LIMIT ?2)"
)


def _condition(where: TaskFilter, cursor: str | None, now: int, limit: int) -> tuple[str, list[Any]]:
    """Return the condition of every field but the status, and the query's values: ?1 is `now`, ?2 `limit`."""
    values: list[Any] = [now, limit]
    asked = (
        ("seq IN (SELECT seq FROM task_tag WHERE tag = ?%d)", where.tag),
        ("type = ?%d", where.type),
        ("queue = ?%d", where.queue),
        ("created_at > ?%d", optional_micros(where.created_after)),
        ("created_at < ?%d", optional_micros(where.created_before)),
        # so that SQLite may use the partial index of owners
        ("owner = ?%d AND owner <> ''" if where.owner else "owner = ?%d", where.owner),
        ("seq < ?%d", None if cursor is None else from_cursor(cursor)),
    )
    return join_terms(["1"], asked, values), values


def find_attempts(connection: apsw.Connection, task_id: UUID, now: int) -> list[Attempt]:
    """Return the attempts of a task, oldest first."""
    rows = connection.execute(QUERIES["attempts"], {"task_id": task_id.bytes, "now": now})
    return [attempt_of(row) for row in rows]


def find_events(connection: apsw.Connection, task_id: UUID, after: int, limit: int, now: int) -> list[Event]:
    """Return the events of a task with a sequence above `after`."""
    row = connection.execute(QUERIES["head_by_id"], (task_id.bytes,)).fetchone()
    if row is None or is_over(row[1], now):
        return []
    seq, _, *head = row
    kept = [Entry(*entry) for entry in connection.execute(QUERIES["events"], (seq, after, limit))]
    return [event_of(entry, task_id) for entry in merge(Head(*head), kept, after, limit)]


def find_expired(connection: apsw.Connection, steady: int, limit: int) -> list[Claim]:
    """Return running attempts whose lease has ended by `steady`, in microseconds of the monotonic clock."""
    return [claim_of(row) for row in connection.execute(QUERIES["expired"], (steady, limit))]


def find_running(connection: apsw.Connection) -> dict[str, list[RunningAttempt]]:
    """Return the running attempts by worker, oldest first."""
    running: dict[str, list[RunningAttempt]] = {}
    for worker, task_id, attempt, type_, queue, started_at, owner in connection.execute(QUERIES["running_by_worker"]):
        running.setdefault(worker, []).append(
            RunningAttempt(
                task_id=task_id_of(task_id),
                attempt=attempt,
                type=type_,
                queue=queue,
                started_at=from_micros(started_at),
                owner=owner,
            )
        )
    return running


def stats(
    connection: apsw.Connection, now: int, owner: str | None, queues: Collection[str] | None
) -> list[PartitionStats]:
    """Count the open tasks by queue and type; only an owner's, and only in these queues, if given."""
    values: dict[str, Any] = {"now": now, "parked": PARKED, "owner": owner}
    whose, which = "" if owner is None else "own_", "by_partition"
    among = None if queues is None else frozenset(queues)
    if among is not None:
        values["queues"], which = encode(list(among)).decode(), "in_queues"
    pending: list[Row] = connection.execute(QUERIES[f"{whose}pending_{which}"], values).fetchall()
    running: list[Row] = connection.execute(QUERIES[f"{whose}running_by_partition"], values).fetchall()
    return partition_stats(
        [(*row, from_micros(oldest) if oldest <= now else None) for *row, oldest in pending],
        [row for row in running if among is None or row[0] in among],
    )
