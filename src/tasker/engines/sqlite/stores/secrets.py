"""The SecretStore of the embedded engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from tasker.engines.sqlite.reader import Reader
from tasker.engines.sqlite.rows import task_id_of
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.transaction import Write


class SqliteSecrets:
    """read, write: do work on the reading connection, or in a transaction of the writing one."""

    def __init__(self, read: Reader, write: Write) -> None:
        self._read = read
        self._write = write

    async def find(self, task_id: UUID) -> bytes | None:
        query = QUERIES["find_secrets"]
        row: Any = await self._read(lambda connection: connection.execute(query, (task_id.bytes,)).fetchone())
        return None if row is None else row[0]

    async def erase(self, task_ids: Sequence[UUID]) -> None:
        rows = [(task_id.bytes,) for task_id in task_ids]
        await self._write(lambda tx: tx.connection.executemany(QUERIES["erase_secrets"], rows))

    async def find_ended(self, *, limit: int) -> list[UUID]:
        query = QUERIES["secrets_of_ended"]
        rows: list[Any] = await self._read(lambda connection: connection.execute(query, (limit,)).fetchall())
        return [task_id_of(row[0]) for row in rows]
