"""The rows of shared stores in PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

import asyncpg
from msgspec import Struct

from tasker.engines.postgres.clock_steps import EraseUntil
from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.transaction import Connection, Transaction
from tasker.engines.shared.rows import Rows, Taken
from tasker.engines.shared.tables import OWN_SHAPES, Shape, Table

S = TypeVar("S", bound=Struct)
T = TypeVar("T")


class Texts:
    """The SQL of one schema."""

    def __init__(self, queries: dict[str, str], schema: str) -> None:
        self.queries = queries
        self.schema = schema
        self.tables = {shape: Table(shape, schema, {}) for shape in OWN_SHAPES}


class PostgresRows(Rows):
    """Implements `Rows`. tx: the transaction; None for a read."""

    tx: Transaction

    lock_row = " FOR UPDATE"

    def __init__(self, texts: Texts, connection: Connection, tx: Transaction | None = None) -> None:
        self._texts = texts
        self._connection = connection
        if tx is not None:
            self.tx, self.is_retry = tx, tx.is_retry

    async def lock(self, kind: int, name: str) -> None:
        await self._connection.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", kind, name)

    async def _fetch(self, text: str, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        statement, names = numbered(text)
        return [tuple(row) for row in await self._connection.fetch(statement, *[values[name] for name in names])]

    async def _run(self, text: str, values: Mapping[str, Any]) -> int:
        statement, names = numbered(text)
        done: str = await self._connection.execute(statement, *[values[name] for name in names])
        return int(done.split()[-1])

    async def _run_many(self, text: str, values: Iterable[Mapping[str, Any]]) -> None:
        statement, names = numbered(text)
        await self._connection.executemany(statement, [[one[name] for name in names] for one in values])

    def _query(self, name: str) -> str:
        return self._texts.queries[name]

    def _table(self, shape: Shape[S]) -> Table[S]:
        return self._texts.tables[shape]


@lru_cache(maxsize=1000)
def numbered(text: str) -> tuple[str, Sequence[str]]:
    """Return a statement with its named values replaced by $1, $2..., and the names in that order."""
    names: dict[str, str] = {}
    statement = re.sub(
        r"(?<!:):([a-z_][a-z_0-9]*)", lambda match: names.setdefault(match[1], f"${len(names) + 1}"), text
    )
    return statement, tuple(names)


class PostgresDatabase:
    """Implements `Database`."""

    def __init__(self, connections: Connections, texts: Texts, erase_until: EraseUntil) -> None:
        self._connections = connections
        self._texts = texts
        self._erase_until = erase_until

    def read(self, work: Callable[[PostgresRows], Coroutine[Any, Any, T]]) -> Awaitable[T]:
        return self._connections.read(lambda connection: work(PostgresRows(self._texts, connection)))

    def look(self, work: Callable[[PostgresRows], Coroutine[Any, Any, T]]) -> Awaitable[T]:
        return self._connections.look(lambda connection: work(PostgresRows(self._texts, connection)))

    async def write(self, work: Callable[[PostgresRows], Coroutine[Any, Any, T]], *, size: int = 0) -> T:
        try:
            return await self._connections.transact(lambda tx: work(self.rows_of(tx)))
        except asyncpg.UniqueViolationError as error:
            raise Taken from error

    async def erase_until(self, rows: PostgresRows) -> datetime:
        return await self._erase_until(rows.tx)

    def rows_of(self, tx: Transaction) -> PostgresRows:
        """Return the rows that a transaction sees."""
        return PostgresRows(self._texts, tx.connection, tx)
