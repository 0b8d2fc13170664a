"""The KeyBook of the embedded engine: one process holds the file, so that it knows of every change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

import apsw

from tasker.clock import from_micros, to_micros
from tasker.engines.sqlite.rows import Row, optional_micros
from tasker.engines.sqlite.sql import QUERIES
from tasker.errors import Conflict
from tasker.model.keys import Key

Run = Callable[[Callable[[apsw.Connection], Any]], Awaitable[Any]]


class SqliteKeys:
    """read, write: do work on the reading connection, or in a transaction of the writing one. micros: the time now."""

    def __init__(self, read: Run, write: Run, micros: Callable[[], int]) -> None:
        self._read = read
        self._write = write
        self._micros = micros
        self._version = 0

    async def version(self) -> int:
        return self._version

    async def add(self, key: Key) -> None:
        def work(connection: apsw.Connection) -> None:
            if connection.execute(QUERIES["api_key_by_id"], (key.key_id,)).fetchone():
                raise Conflict(f"there is a key {key.key_id} already")
            connection.execute(QUERIES["insert_api_key"], _row(key))

        await self._write(work)
        self._version += 1

    async def find_all(self) -> list[Key]:
        def query(connection: apsw.Connection) -> list[Key]:
            return [_key(row) for row in connection.execute(QUERIES["api_keys"])]

        found: list[Key] = await self._read(query)
        return found

    async def revoke(self, key_id: str) -> Key | None:
        now = self._micros()

        def work(connection: apsw.Connection) -> Key | None:
            connection.execute(QUERIES["revoke_api_key"], (now, key_id))
            row = connection.execute(QUERIES["api_key_by_id"], (key_id,)).fetchone()
            return None if row is None else _key(row)

        key: Key | None = await self._write(work)
        self._version += 1
        return key

    async def note_uses(self, uses: Mapping[str, datetime]) -> None:
        rows = [(to_micros(at), key_id) for key_id, at in uses.items()]
        await self._write(lambda connection: connection.executemany(QUERIES["note_api_key_use"], rows))


def _row(key: Key) -> Row:
    return (
        key.key_id, key.name, key.owner, ",".join(key.scopes), key.digest, to_micros(key.created_at),
        optional_micros(key.expires_at), optional_micros(key.revoked_at), optional_micros(key.last_used_at), key.rate,
        key.burst, key.daily_budget,
    )  # fmt: skip


def _key(row: Row) -> Key:
    key_id, name, owner, scopes, digest, created_at, expires_at, revoked_at, last_used_at, *limits = row
    rate, burst, daily_budget = limits
    return Key(
        key_id=key_id, name=name, owner=owner, scopes=tuple(scopes.split(",")), digest=digest,
        created_at=from_micros(created_at), expires_at=_moment(expires_at), revoked_at=_moment(revoked_at),
        last_used_at=_moment(last_used_at), rate=rate, burst=burst, daily_budget=daily_budget,
    )  # fmt: skip


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)
