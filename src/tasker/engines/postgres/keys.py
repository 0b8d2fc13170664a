"""The KeyBook on the tables of one schema."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import structs

from tasker.engines.postgres.connections import Connection, Connections
from tasker.engines.postgres.news import News
from tasker.errors import Conflict
from tasker.model.keys import Key


class PostgresKeys:
    """Keys, shared by every process on the database: each change of them moves the version on, in one transaction."""

    def __init__(self, connections: Connections, queries: dict[str, str]) -> None:
        self._connections = connections
        self._queries = queries

    async def version(self) -> int:
        found: int = await self._connections.look(
            lambda connection: connection.fetchval(self._queries["api_key_version"])
        )
        return found

    async def add(self, key: Key) -> None:
        values = [",".join(key.scopes) if name == "scopes" else value for name, value in structs.asdict(key).items()]

        async def work(connection: Connection, _news: News, _again: bool) -> None:
            if await connection.fetchval(self._queries["insert_api_key"], *values) != key.digest:
                raise Conflict(f"there is a key {key.key_id} already")
            await connection.execute(self._queries["change_api_keys"])

        await self._connections.transact(work)

    async def find_all(self) -> list[Key]:
        rows = await self._connections.look(lambda connection: connection.fetch(self._queries["api_keys"]))
        return [_key(row) for row in rows]

    async def revoke(self, key_id: str) -> Key | None:
        async def work(connection: Connection, _news: News, _again: bool) -> Any:
            row = await connection.fetchrow(self._queries["revoke_api_key"], key_id)
            await connection.execute(self._queries["change_api_keys"])
            return row

        row, _ = await self._connections.transact(work)
        return None if row is None else _key(row)

    async def note_uses(self, uses: Mapping[str, datetime]) -> None:
        async def work(connection: Connection, _news: News, _again: bool) -> None:
            await connection.execute(self._queries["note_api_key_uses"], list(uses), list(uses.values()))

        await self._connections.transact(work)


def _key(row: Any) -> Key:
    return Key(**{**row, "scopes": tuple(row["scopes"].split(","))})
