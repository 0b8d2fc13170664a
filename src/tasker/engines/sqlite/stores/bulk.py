"""The BulkStore of the embedded engine."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from uuid import UUID

from tasker.engines.shared.stores.bulk import Bulks
from tasker.engines.sqlite import control
from tasker.engines.sqlite.control import Erase
from tasker.engines.sqlite.retention import References
from tasker.engines.sqlite.tables import SqliteDatabase, SqliteRows, at_once
from tasker.engines.sqlite.transaction import Transaction
from tasker.model.bulk import BulkAction
from tasker.model.control import Action


class _ErasingRows(SqliteRows):
    """The rows of a transaction that erases tasks. erased: their result files, to remove once it is durable."""

    def __init__(self, tx: Transaction) -> None:
        super().__init__(tx.connection, tx.now, tx)
        self.erased: References = []


class SqliteBulks(Bulks[SqliteRows]):
    """erase: does work in a transaction, then removes the result files that the work returns."""

    def __init__(self, database: SqliteDatabase, erase: Erase) -> None:
        super().__init__(database)
        self._erase = erase

    async def _lock(self, rows: SqliteRows, task_ids: Sequence[UUID]) -> tuple[Sequence[UUID], Sequence[UUID]]:
        """Return all tasks: there is only one writer, and an act notices that a task is gone."""
        return task_ids, ()

    async def _act(self, rows: SqliteRows, action: Action, task_id: UUID) -> None:
        if action == "cancel":
            control.cancel(rows.tx, task_id)
        elif action == "retry":
            control.retry(rows.tx, task_id)
        else:
            assert isinstance(rows, _ErasingRows)
            rows.erased += control.delete(rows.tx, task_id)

    async def _write(
        self, action: Action, work: Callable[[SqliteRows], Coroutine[Any, Any, BulkAction | None]]
    ) -> BulkAction | None:
        if action != "delete":
            return await super()._write(action, work)
        after: BulkAction | None = None

        def erase(tx: Transaction) -> tuple[int, References]:
            nonlocal after
            rows = _ErasingRows(tx)
            after = at_once(work(rows))
            return 1, rows.erased

        await self._erase(erase)
        return after
