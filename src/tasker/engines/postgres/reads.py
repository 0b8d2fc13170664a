"""Reads of single tasks, attempts, events and counts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from tasker.engines.postgres.rows import attempt_of, entry_of, event_of, head_of, task_of
from tasker.engines.postgres.transaction import Connection
from tasker.engines.shared.log import merge
from tasker.engines.shared.stats import partition_stats
from tasker.model import Attempt, Event, PartitionStats, Task


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
