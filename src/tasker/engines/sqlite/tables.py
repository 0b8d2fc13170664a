"""The rows of shared stores in SQLite. Statements never wait, so a store's coroutine runs to its end in one step."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import apsw
from msgspec import Struct

from tasker.clock import MICROSECOND, Clock, from_micros, to_micros
from tasker.engines.shared.rows import Rows
from tasker.engines.shared.tables import OWN_SHAPES, Codec, Shape, Table
from tasker.engines.sqlite.reader import Reader
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.transaction import Transaction, Write

S = TypeVar("S", bound=Struct)
T = TypeVar("T")
_EPOCH = date(1970, 1, 1)
_OWN = {
    UUID: Codec(lambda value: value.bytes, lambda column: UUID(bytes=column)),
    datetime: Codec(to_micros, from_micros),
    timedelta: Codec(lambda value: value // MICROSECOND, lambda column: timedelta(microseconds=column)),
    date: Codec(lambda value: (value - _EPOCH).days, lambda column: _EPOCH + timedelta(days=column)),
    bool: Codec(int, bool),
}
_BIND: dict[type, Callable[[Any], Any]] = {type_: codec.write for type_, codec in _OWN.items()}
_TABLES = {shape: Table(shape, "main", _OWN) for shape in OWN_SHAPES}


def table_of(shape: Shape[S]) -> Table[S]:
    """Return the table of a shape."""
    return _TABLES[shape]


class SqliteRows(Rows):
    """Implements `Rows`. now: microseconds. tx: the transaction; None for a read."""

    tx: Transaction

    own = _OWN

    def __init__(self, connection: apsw.Connection, now: int, tx: Transaction | None = None) -> None:
        self._connection = connection
        self._now = now
        if tx is not None:
            self.tx = tx

    async def lock(self, kind: int, name: str) -> None:
        """Do nothing: there is only one writer."""

    async def _fetch(self, text: str, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        return self._connection.execute(text, self._bound(values)).fetchall()

    async def _run(self, text: str, values: Mapping[str, Any]) -> int:
        self._connection.execute(text, self._bound(values))
        return self._connection.changes()

    async def _run_many(self, text: str, values: Iterable[Mapping[str, Any]]) -> None:
        self._connection.executemany(text, map(self._bound, values))

    def _query(self, name: str) -> str:
        return QUERIES[name]

    def _table(self, shape: Shape[S]) -> Table[S]:
        return _TABLES[shape]

    def _bound(self, values: Mapping[str, Any]) -> dict[str, Any]:
        bound = {name: _BIND[type(value)](value) if type(value) in _BIND else value for name, value in values.items()}
        bound["now"] = self._now
        return bound


def _bind_list(values: Iterable[Any]) -> str:
    return json.dumps([value.hex if isinstance(value, UUID) else value for value in values])


_BIND |= dict.fromkeys((list, tuple, set, frozenset), _bind_list)


class SqliteDatabase:
    """Implements `Database`. read, write: run work on the reading connection, or in a transaction."""

    def __init__(self, read: Reader, write: Write, clock: Clock, erase_until: Callable[[], int]) -> None:
        self._read = read
        self._write = write
        self._clock = clock
        self._erase_until = erase_until

    async def read(self, work: Callable[[SqliteRows], Coroutine[Any, Any, T]]) -> T:
        now = to_micros(self._clock.now())
        return await self._read(lambda connection: at_once(work(SqliteRows(connection, now))))

    look = read

    async def write(self, work: Callable[[SqliteRows], Coroutine[Any, Any, T]], *, size: int = 0) -> T:
        return await self._write(lambda tx: at_once(work(rows_of(tx))), size=size)

    async def erase_until(self, _: SqliteRows) -> datetime:
        return from_micros(self._erase_until())


def rows_of(tx: Transaction) -> SqliteRows:
    """Return the rows that a transaction sees."""
    return SqliteRows(tx.connection, tx.now, tx)


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits to its end."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise RuntimeError("work on the rows of SQLite waited for something else")
