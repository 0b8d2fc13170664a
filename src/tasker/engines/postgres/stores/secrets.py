"""The SecretStore on the tables of one schema."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.transaction import Transaction


class PostgresSecrets:
    """Secret params, written with their tasks."""

    def __init__(self, connections: Connections, queries: dict[str, str]) -> None:
        self._connections = connections
        self._queries = queries

    async def find(self, task_id: UUID) -> bytes | None:
        found: bytes | None = await self._connections.look(
            lambda connection: connection.fetchval(self._queries["find_secrets"], task_id)
        )
        return found

    async def erase(self, task_ids: Sequence[UUID]) -> None:
        async def work(tx: Transaction) -> None:
            await tx.execute(self._queries["erase_secrets"], list(task_ids))

        await self._connections.transact(work)

    async def find_ended(self, *, limit: int) -> list[UUID]:
        rows = await self._connections.look(
            lambda connection: connection.fetch(self._queries["secrets_of_ended"], limit)
        )
        return [row["task_id"] for row in rows]
