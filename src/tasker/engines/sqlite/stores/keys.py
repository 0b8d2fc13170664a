"""The KeyStore of the embedded engine: one process holds the file, so that it knows of every change."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tasker.clock import to_micros
from tasker.engines.shared.tables import KEYS
from tasker.engines.shared.values import too_many
from tasker.engines.sqlite.reader import Reader
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.tables import Table
from tasker.engines.sqlite.transaction import Transaction, Write
from tasker.errors import Conflict
from tasker.model.keys import KEEP_DEAD_KEYS, Key

_table = Table(KEYS)


class SqliteKeys:
    """read, write: do work on the reading connection, or in a transaction of the writing one."""

    def __init__(self, read: Reader, write: Write) -> None:
        self._read = read
        self._write = write
        self._version = 0

    async def version(self) -> int:
        return self._version

    async def add(self, key: Key, *, most: int | None = None) -> None:
        def work(tx: Transaction) -> None:
            if _table.find(tx.connection, key.key_id) is not None:
                raise Conflict(f"there is a key {key.key_id} already")
            if most is not None and tx.execute(QUERIES["count_api_keys"], (tx.now,)).get >= most:
                raise too_many("keys that are good", most)
            _table.insert(tx.connection, key)
            tx.execute(QUERIES["prune_api_keys"], (tx.now, KEEP_DEAD_KEYS))

        await self._write(work)
        self._version += 1

    async def find_all(self) -> list[Key]:
        return await self._read(_table.find_all)

    async def revoke(self, key_id: str) -> Key | None:
        def work(tx: Transaction) -> Key | None:
            tx.execute(QUERIES["revoke_api_key"], (tx.now, key_id))
            return _table.find(tx.connection, key_id)

        key = await self._write(work)
        self._version += 1
        return key

    async def cursor_secret(self) -> bytes:
        return await self._read(lambda connection: connection.execute(QUERIES["cursor_secret"]).get)

    async def record_uses(self, uses: Mapping[str, datetime]) -> None:
        rows = [(to_micros(at), key_id) for key_id, at in uses.items()]
        await self._write(lambda tx: tx.connection.executemany(QUERIES["note_api_key_use"], rows))
