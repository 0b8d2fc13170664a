"""The KeyStore."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any, TypeVar

from tasker.engines.shared.refusals import too_many
from tasker.engines.shared.rows import Database, Rows
from tasker.engines.shared.tables import KEYS
from tasker.errors import Conflict
from tasker.model.keys import KEEP_DEAD_KEYS, Key

T = TypeVar("T")


class Keys(ABC):
    """API keys. Each engine adds the version, which every change increases."""

    def __init__(self, database: Database[Any]) -> None:
        self._database = database

    @abstractmethod
    async def version(self) -> int: ...

    @abstractmethod
    async def _change(self, work: Callable[[Rows], Coroutine[Any, Any, T]]) -> T:
        """Do work in a transaction that increases the version."""

    async def add(self, key: Key, *, most: int | None = None) -> None:
        async def work(rows: Rows) -> None:
            found = await rows.find(KEYS, key.key_id)
            if rows.is_retry and found == key:
                return
            if found is not None:
                raise Conflict(f"there is a key {key.key_id} already")
            if most is not None and await rows.count("count_api_keys") >= most:
                raise too_many("valid keys", most)
            await rows.insert(KEYS, key)
            await rows.run("prune_api_keys", keep=KEEP_DEAD_KEYS)

        await self._change(work)

    async def find_all(self) -> list[Key]:
        return await self._database.look(lambda rows: rows.find_all(KEYS))

    async def revoke(self, key_id: str) -> Key | None:
        async def work(rows: Rows) -> Key | None:
            await rows.run("revoke_api_key", key_id=key_id)
            return await rows.find(KEYS, key_id)

        return await self._change(work)

    async def cursor_secret(self) -> bytes:
        secret: bytes = await self._database.look(lambda rows: rows.value("cursor_secret", bytes))
        return secret

    async def record_uses(self, uses: Mapping[str, datetime]) -> None:
        values = [
            {"key_id": key_id, "at": at} for key_id, at in sorted(uses.items())
        ]  # sorted, so that no two transactions deadlock
        await self._database.write(lambda rows: rows.run_many("record_api_key_use", values))
