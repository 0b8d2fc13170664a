"""The QueueStore of the distributed engine."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.queue_table import QueueTable
from tasker.model.queues import Place, QueueChange, QueueSettings, QueueState


class PostgresQueues:
    """Queues: their settings, and the tasks in them."""

    def __init__(self, connections: Connections, table: QueueTable) -> None:
        self._connections = connections
        self._table = table

    async def find_all(self, names: Collection[str] | None = None) -> list[QueueState]:
        return await self._connections.read(lambda connection: self._table.find_all(connection, names))

    async def find_names(self, *, after: str | None = None, limit: int) -> list[str]:
        rows = await self._connections.read(lambda connection: self._table.find_names(connection, after or "", limit))
        return [row["name"] for row in rows]

    async def find_open(self, owner: str) -> list[str]:
        return await self._connections.read(lambda connection: self._table.find_open(connection, owner))

    async def find_place(self, task_id: UUID, owner: str | None = None) -> Place | None:
        return await self._connections.read(lambda connection: self._table.find_place(connection, task_id, owner))

    async def find_run_time(self, task_id: UUID) -> timedelta | None:
        return await self._connections.read(lambda connection: self._table.find_run_time(connection, task_id))

    async def change(self, name: str, change: QueueChange, *, most: int | None = None) -> QueueSettings:
        return await self._connections.transact(lambda tx: self._table.change(tx, name, change, most))
