"""The KeyStore on the tables of one schema."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.tables import Table
from tasker.engines.postgres.transaction import Transaction
from tasker.engines.shared.tables import KEYS
from tasker.engines.shared.values import too_many
from tasker.errors import Conflict
from tasker.model.keys import KEEP_DEAD_KEYS, Key


class PostgresKeys:
    """Keys, shared by every process on the database: each change of them moves the version on, in one transaction."""

    def __init__(self, connections: Connections, queries: dict[str, str], schema: str) -> None:
        self._connections = connections
        self._queries = queries
        self._table = Table(KEYS, schema)

    async def version(self) -> int:
        found: int = await self._connections.look(
            lambda connection: connection.fetchval(self._queries["api_key_version"])
        )
        return found

    async def add(self, key: Key, *, most: int | None = None) -> None:
        async def work(tx: Transaction) -> None:
            await tx.execute(self._queries["prune_api_keys"], KEEP_DEAD_KEYS)  # holds the version: one by one
            stored = tx.is_retry and await self._table.find(tx, key.key_id) is not None
            count = 0 if stored else await tx.fetchval(self._queries["count_api_keys"])
            if most is not None and count >= most:
                raise too_many("keys that are good", most)
            # One that is there as it is given was stored by an earlier try of ours whose answer was lost.
            if not await self._table.insert(tx, key) and await self._table.find(tx, key.key_id) != key:
                raise Conflict(f"there is a key {key.key_id} already")
            await tx.execute(self._queries["change_api_keys"])

        await self._connections.transact(work)

    async def find_all(self) -> list[Key]:
        return await self._connections.look(self._table.find_all)

    async def revoke(self, key_id: str) -> Key | None:
        async def work(tx: Transaction) -> Key | None:
            await tx.execute(self._queries["revoke_api_key"], key_id)
            await tx.execute(self._queries["change_api_keys"])
            return await self._table.find(tx, key_id)

        return await self._connections.transact(work)

    async def cursor_secret(self) -> bytes:
        secret: bytes = await self._connections.look(
            lambda connection: connection.fetchval(self._queries["cursor_secret"])
        )
        return secret

    async def record_uses(self, uses: Mapping[str, datetime]) -> None:
        async def work(tx: Transaction) -> None:
            await tx.execute(self._queries["note_api_key_uses"], list(uses), list(uses.values()))

        await self._connections.transact(work)
