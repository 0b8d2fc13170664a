"""The KeyStore of the embedded engine: one process holds the file, so that it knows of every change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

import apsw

from tasker.clock import to_micros
from tasker.engines.shared.tables import KEYS
from tasker.engines.shared.values import too_many
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.tables import Table
from tasker.errors import Conflict
from tasker.model.keys import KEEP_DEAD_KEYS, Key

Run = Callable[[Callable[[apsw.Connection], Any]], Awaitable[Any]]
_table = Table(KEYS)


class SqliteKeys:
    """read, write: do work on the reading connection, or in a transaction of the writing one. micros: the time now."""

    def __init__(self, read: Run, write: Run, micros: Callable[[], int]) -> None:
        self._read = read
        self._write = write
        self._micros = micros
        self._version = 0

    async def version(self) -> int:
        return self._version

    async def add(self, key: Key, *, most: int | None = None) -> None:
        now = self._micros()

        def work(connection: apsw.Connection) -> None:
            if _table.find(connection, key.key_id) is not None:
                raise Conflict(f"there is a key {key.key_id} already")
            if most is not None and connection.execute(QUERIES["count_api_keys"], (now,)).get >= most:
                raise too_many("keys that are good", most)
            _table.insert(connection, key)
            connection.execute(QUERIES["prune_api_keys"], (now, KEEP_DEAD_KEYS))

        await self._write(work)
        self._version += 1

    async def find_all(self) -> list[Key]:
        found: list[Key] = await self._read(_table.find_all)
        return found

    async def revoke(self, key_id: str) -> Key | None:
        now = self._micros()

        def work(connection: apsw.Connection) -> Key | None:
            connection.execute(QUERIES["revoke_api_key"], (now, key_id))
            return _table.find(connection, key_id)

        key: Key | None = await self._write(work)
        self._version += 1
        return key

    async def cursor_secret(self) -> bytes:
        secret: bytes = await self._read(lambda connection: connection.execute(QUERIES["cursor_secret"]).get)
        return secret

    async def record_uses(self, uses: Mapping[str, datetime]) -> None:
        rows = [(to_micros(at), key_id) for key_id, at in uses.items()]
        await self._write(lambda connection: connection.executemany(QUERIES["note_api_key_use"], rows))
