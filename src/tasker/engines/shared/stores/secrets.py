"""The SecretStore."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from tasker.engines.shared.rows import Database


class Secrets:
    """Secret params of tasks; `submit` stores them, with the tasks."""

    def __init__(self, database: Database[Any]) -> None:
        self._database = database

    async def find(self, task_id: UUID) -> bytes | None:
        return await self._database.look(lambda rows: rows.value("find_secrets", bytes, task_id=task_id))

    async def erase(self, task_ids: Sequence[UUID]) -> None:
        async def work(rows: Any) -> None:
            await rows.run("erase_secrets", task_ids=task_ids)
            await rows.run("erase_secret_values", task_ids=task_ids)

        await self._database.write(work)

    async def find_ended(self, *, limit: int) -> list[UUID]:
        return await self._database.look(lambda rows: rows.values("secrets_of_ended", UUID, limit=limit))
