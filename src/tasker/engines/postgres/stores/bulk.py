"""The BulkStore of the distributed engine."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from tasker.engines.postgres.control import TaskChanges
from tasker.engines.postgres.tables import PostgresDatabase, PostgresRows
from tasker.engines.shared.stores.bulk import Bulks
from tasker.model.control import Action


class PostgresBulks(Bulks[PostgresRows]):
    def __init__(self, database: PostgresDatabase, queries: dict[str, str], changes: TaskChanges) -> None:
        super().__init__(database)
        self._queries = queries
        self._acts = {"cancel": changes.cancel, "retry": changes.retry, "delete": changes.delete}

    async def _lock(self, rows: PostgresRows, task_ids: Sequence[UUID]) -> tuple[Sequence[UUID], Sequence[UUID]]:
        """Lock the tasks that are free. If none is, wait for the first: to wait with others locked may deadlock."""
        there = {row["task_id"] for row in await rows.tx.fetch(self._queries["existing_tasks"], task_ids)}
        free = {row["task_id"] for row in await rows.tx.fetch(self._queries["lock_free"], task_ids)}
        held = [task_id for task_id in task_ids if task_id in there and task_id not in free]
        if held and not free:
            free = {row["task_id"] for row in await rows.tx.fetch(self._queries["lock_one"], held.pop(0))}
        return [task_id for task_id in task_ids if task_id in free], held

    async def _act(self, rows: PostgresRows, action: Action, task_id: UUID) -> None:
        tx = rows.tx
        was_retry, tx.is_retry = tx.is_retry, False  # the version of the action shows that no earlier try was stored
        try:
            await self._acts[action](tx, task_id)
        finally:
            tx.is_retry = was_retry
