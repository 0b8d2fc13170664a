"""Reads of single tasks, attempts, events and counts."""

from __future__ import annotations

from uuid import UUID

from tasker.engines.postgres.rows import attempt_of, entry_of, event_of, head_of, task_of
from tasker.engines.postgres.transaction import Connection
from tasker.engines.shared.log import merge
from tasker.model import Attempt, Event, Task


class Reads:
    """The reads, by the queries of one schema."""

    def __init__(self, queries: dict[str, str]) -> None:
        self._queries = queries

    async def find(self, connection: Connection, task_id: UUID) -> Task | None:
        """Return the task, or None."""
        row = await connection.fetchrow(self._queries["task_by_id"], task_id)
        return None if row is None else task_of(row)

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
