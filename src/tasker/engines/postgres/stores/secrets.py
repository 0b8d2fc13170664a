"""The SecretStore on the tables of one schema."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from tasker.engines.postgres.connections import Connection, Connections
from tasker.engines.postgres.notices import News
from tasker.model import Draft


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
        async def work(connection: Connection, _news: News, _again: bool) -> None:
            await connection.execute(self._queries["erase_secrets"], list(task_ids))

        await self._connections.transact(work)

    async def find_ended(self, *, limit: int) -> list[UUID]:
        rows = await self._connections.look(
            lambda connection: connection.fetch(self._queries["secrets_of_ended"], limit)
        )
        return [row["task_id"] for row in rows]


async def insert_secrets(
    connection: Connection, queries: dict[str, str], drafts: Sequence[Draft], stored: Collection[UUID]
) -> None:
    """Keep the secrets of the drafts that were stored."""
    kept = [draft for draft in drafts if draft.secrets is not None and draft.task_id in stored]
    columns = [draft.task_id for draft in kept], [draft.secrets for draft in kept]
    await connection.execute(queries["insert_secrets"], *columns)
