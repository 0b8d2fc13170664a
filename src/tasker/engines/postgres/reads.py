"""Reads of single tasks, attempts, events and counts."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from msgspec import structs

from tasker.engines.postgres.rows import attempt_of, entry_of, event_of, head_of, task_of
from tasker.engines.postgres.tables import Texts
from tasker.engines.postgres.transaction import Connection
from tasker.engines.shared.log import merge
from tasker.engines.shared.steps import asked_by
from tasker.engines.shared.tables import STEPS
from tasker.model import Attempt, Event, Task
from tasker.model.tasks import ChildCounts


class Reads:
    """The reads, by the queries of one schema."""

    def __init__(self, texts: Texts) -> None:
        self._queries = texts.queries
        self._steps = texts.tables[STEPS]

    async def find(self, connection: Connection, task_id: UUID) -> Task | None:
        """Return the task, or None."""
        row = await connection.fetchrow(self._queries["task_by_id"], task_id)
        if row is None:
            return None
        task = task_of(row)
        if not row["has_dependants"]:
            return task
        counts = await connection.fetchrow(self._queries["child_counts"], row["seq"])
        asked = await connection.fetchrow(self._queries["asked_of"], row["seq"])
        question = None if asked is None else asked_by(self._steps.value(asked.values()))
        return structs.replace(task, children=_counts_of(counts), input=question)

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


def _counts_of(row: Any) -> ChildCounts | None:
    """Return the counts in a row of the query `child_counts`; None without steps of children."""
    if row["stored"] is None:
        return None
    ended = {status: row[status] for status in ("completed", "failed", "cancelled")}
    pending = max(0, row["stored"] - sum(ended.values()) - row["running"])
    return ChildCounts(pending=pending, running=row["running"], **ended)
