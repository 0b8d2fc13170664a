"""The Control of the distributed engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from tasker.engines.postgres.changes import Changes
from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.reads import Reads
from tasker.engines.postgres.transaction import Transaction
from tasker.engines.shared.cursors import to_cursor
from tasker.errors import Conflict, NotFound
from tasker.model import Draft, TaskFilter
from tasker.model.control import Action, Chosen, ChosenTask, Counted

Act = Callable[[Transaction, UUID], Awaitable[Any]]


class PostgresControl:
    """transact: runs work in a transaction and tells its news."""

    def __init__(self, connections: Connections, queries: dict[str, str], reads: Reads, changes: Changes) -> None:
        self._connections = connections
        self._queries = queries
        self._reads = reads
        self._acts: dict[Action, Act] = {
            "cancel": changes.cancel,
            "retry": changes.retry,
            "delete": changes.delete,
        }

    async def find_draft(self, task_id: UUID) -> Draft | None:
        row = await self._connections.read(
            lambda connection: connection.fetchrow(self._queries["draft_by_id"], task_id)
        )
        return None if row is None else Draft(**(dict(row) | {"tags": tuple(row["tags"])}))

    async def count(self, where: TaskFilter) -> Counted:
        query, values = self._reads.count_query(where)
        row = await self._connections.read(lambda connection: connection.fetchrow(query, *values))
        count, newest = row or (0, None)
        return Counted(count, None if newest is None else to_cursor(newest + 1))

    async def choose(self, where: TaskFilter, *, limit: int, cursor: str | None) -> Chosen:
        query, values = self._reads.page_query("seq, task_id, owner, queue", where, cursor, limit + 1)
        rows = await self._connections.read(lambda connection: connection.fetch(query, *values))
        tasks = [ChosenTask(row["task_id"], row["owner"], row["queue"]) for row in rows[:limit]]
        return Chosen(tasks, to_cursor(rows[limit - 1]["seq"]) if len(rows) > limit else None)

    async def act(self, action: Action, task_ids: Sequence[UUID]) -> int:
        act = self._acts[action]

        async def free_ones(tx: Transaction) -> tuple[int, set[UUID]]:
            rows = await tx.fetch(self._queries["lock_free"], task_ids)
            done = [await _done(act(tx, row["task_id"])) for row in rows]
            return sum(done), {row["task_id"] for row in rows}

        async def one(task_id: UUID) -> None:
            await self._connections.transact(lambda tx: act(tx, task_id))

        done, free = await self._connections.transact(free_ones)
        for task_id in task_ids:
            if task_id not in free:  # held by others then, or gone
                done += await _done(one(task_id))
        return int(done)


async def _done(work: Awaitable[Any]) -> bool:
    """Tell whether a task was as the action needs it."""
    try:
        await work
    except (Conflict, NotFound):  # another status by now, or gone
        return False
    return True
