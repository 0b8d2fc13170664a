"""The ScheduleStore of the distributed engine."""

from __future__ import annotations

import contextlib
from uuid import UUID

import asyncpg

from tasker.engines.postgres.control import TaskChanges
from tasker.engines.postgres.submit import Submits
from tasker.engines.postgres.tables import PostgresDatabase, PostgresRows
from tasker.engines.shared.stores.schedules import Schedules
from tasker.errors import Conflict, RequestError
from tasker.model import Draft, Receipt


class PostgresSchedules(Schedules[PostgresRows]):
    def __init__(self, database: PostgresDatabase, submits: Submits, changes: TaskChanges) -> None:
        super().__init__(database)
        self._submits = submits
        self._changes = changes

    async def _submit(self, rows: PostgresRows, draft: Draft) -> Receipt:
        [receipt] = await self._submits.store(rows.tx, [draft])
        return receipt

    async def _submit_tick(self, rows: PostgresRows, draft: Draft) -> Receipt:
        try:
            async with rows.tx.savepoint():
                return await self._submit(rows, draft)
        except asyncpg.UniqueViolationError as error:
            raise Conflict("another open task has its unique_key") from error

    async def _cancel(self, rows: PostgresRows, task_id: UUID) -> None:
        with contextlib.suppress(RequestError):  # it has ended or was erased since it was read
            await self._changes.cancel(rows.tx, task_id)
