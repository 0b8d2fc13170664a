"""Reads of tasks, attempts, events and counts."""

from __future__ import annotations

from collections.abc import Collection
from itertools import accumulate
from typing import Any
from uuid import UUID

from tasker.engines.postgres.rows import attempt_of, entry_of, event_of, head_of, task_of
from tasker.engines.postgres.transaction import Connection
from tasker.engines.shared.cursors import from_cursor, to_cursor
from tasker.engines.shared.log import merge
from tasker.engines.shared.sql import join_terms
from tasker.engines.shared.stats import partition_stats
from tasker.engines.shared.values import PAGE_BYTES
from tasker.model import Attempt, Event, Page, PartitionStats, Status, Task, TaskFilter

_SIZES = "seq, octet_length(params) + coalesce(octet_length(result), 0) AS size"
"""PostgreSQL finds lengths without reading the values."""


class Reads:
    """The reads, on the tables of one schema."""

    def __init__(self, queries: dict[str, str], schema: str) -> None:
        self._queries = queries
        self._schema = schema

    async def find(self, connection: Connection, task_id: UUID) -> Task | None:
        """Return the task, or None."""
        row = await connection.fetchrow(self._queries["task_by_id"], task_id)
        return None if row is None else task_of(row)

    async def find_many(self, connection: Connection, where: TaskFilter, limit: int, cursor: str | None) -> Page:
        """Return one page, newest first."""
        query, values = self.page_query(_SIZES, where, cursor, limit + 1)
        found = await connection.fetch(query, *values)
        sizes = accumulate(row["size"] for row in found[:limit])
        kept = [
            row["seq"]
            for place, (row, size) in enumerate(zip(found, sizes, strict=False))
            if not place or size <= PAGE_BYTES
        ]
        rows = await connection.fetch(self._queries["tasks_by_seq"], kept) if kept else []
        more = len(found) > len(kept)
        return Page(items=[task_of(row) for row in rows], next_cursor=to_cursor(kept[-1]) if more else None)

    def page_query(self, columns: str, where: TaskFilter, cursor: str | None, limit: int) -> tuple[str, list[Any]]:
        """Return the query for columns of the first tasks behind a cursor, newest first, and its values."""
        condition, values = _condition(where, cursor)
        values.append(limit)
        condition = self._by_status(where, condition, len(values))
        query = f"SELECT {columns} FROM {self._schema}.task WHERE {condition} ORDER BY seq DESC LIMIT ${len(values)}"  # noqa: S608  constants only
        return query, values

    def count_query(self, where: TaskFilter) -> tuple[str, list[Any]]:
        """Return the query for the number of a filter's tasks and the newest seq, and its values."""
        condition, values = _condition(where, None)
        each = [
            f"SELECT count(*) AS number, max(seq) AS newest FROM {self._schema}.task"  # noqa: S608  constants only
            f" WHERE status = '{status.value}' AND {condition}"
            for status in where.status or tuple(Status)
        ]
        return f"SELECT sum(number)::bigint, max(newest) FROM ({' UNION ALL '.join(each)}) AS counted", values  # noqa: S608

    def _by_status(self, where: TaskFilter, condition: str, limit: int) -> str:
        """Query each status by itself, so that its partial index finds few tasks among millions that ended."""
        each = [
            f"(SELECT seq FROM {self._schema}.task WHERE status = '{status.value}' AND {condition}"  # noqa: S608
            f" ORDER BY seq DESC LIMIT ${limit})"
            for status in where.status
        ]
        return f"seq IN ({' UNION ALL '.join(each)})" if each else condition

    async def find_attempts(self, connection: Connection, task_id: UUID) -> list[Attempt]:
        """Return the attempts of a task, oldest first."""
        return [attempt_of(row) for row in await connection.fetch(self._queries["attempts"], task_id)]

    async def find_events(self, connection: Connection, task_id: UUID, after: int, limit: int) -> list[Event]:
        """Return the events of a task with a sequence above `after`."""
        row = await connection.fetchrow(self._queries["head_by_id"], task_id)
        if row is None:
            return []
        kept = map(entry_of, await connection.fetch(self._queries["events"], row["seq"], after, limit))
        return [event_of(entry, task_id) for entry in merge(head_of(row), kept, after, limit)]

    async def stats(
        self, connection: Connection, owner: str | None, queues: Collection[str] | None
    ) -> list[PartitionStats]:
        """Count the open tasks by queue and type; only those of an owner and of these queues, if given."""
        whose, which = "" if owner is None else "own_", "partition"
        values: list[Any] = [] if owner is None else [owner]
        if queues is not None:
            which, values = "queues", [*values, list(queues)]
        pending = await connection.fetch(self._queries[f"{whose}pending_by_{which}"], *values)
        running = await connection.fetch(self._queries[f"{whose}running_by_{which}"], *values)
        return partition_stats(pending, running)


def _condition(where: TaskFilter, cursor: str | None) -> tuple[str, list[Any]]:
    """Return the condition of every field but the status, and its values; expired tasks are left out."""
    terms: list[str] = ["true"]
    values: list[Any] = []
    if not where.status or any(status.is_terminal for status in where.status):
        terms.append("(expires_at IS NULL OR expires_at > now())")
    asked = (
        ("type = $%d", where.type),
        ("queue = $%d", where.queue),
        ("created_at > $%d", where.created_after),
        ("created_at < $%d", where.created_before),
        ("tags <> '{}' AND tags @> $%d::text[]", None if where.tag is None else [where.tag]),
        ("owner = $%d AND owner <> ''" if where.owner else "owner = $%d", where.owner),  # so that its index is used
        ("seq < $%d", None if cursor is None else from_cursor(cursor)),
    )
    return join_terms(terms, asked, values), values
