"""The ScheduleStore of the embedded engine."""

from __future__ import annotations

from uuid import UUID

from tasker.engines.shared.stores.schedules import Schedules
from tasker.engines.sqlite.control import cancel_open
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.submit import insert
from tasker.engines.sqlite.tables import SqliteRows
from tasker.model import Draft, Receipt


class SqliteSchedules(Schedules[SqliteRows]):
    async def _submit(self, rows: SqliteRows, draft: Draft) -> Receipt:
        return insert(rows.tx, draft)

    async def _submit_tick(self, rows: SqliteRows, draft: Draft) -> Receipt:
        if rows.tx.execute(QUERIES["status_by_id"], (draft.task_id.bytes,)).fetchone() is not None:
            return Receipt(draft.task_id, "stored")
        return await self._submit(rows, draft)  # refuses before it has written anything

    async def _cancel(self, rows: SqliteRows, task_id: UUID) -> None:
        cancel_open(rows.tx, task_id)
