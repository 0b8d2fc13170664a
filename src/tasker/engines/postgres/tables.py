"""Tables of structs in PostgreSQL: see engines/tables.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from msgspec import Struct

from tasker.engines.postgres.transaction import Connection
from tasker.engines.shared.tables import SHAPES, Shape, codec_of, read_row, write_row

S = TypeVar("S", bound=Struct)


class Table(Generic[S]):
    """The table of a shape in a schema: its statements, on any connection."""

    def __init__(self, shape: Shape[S], schema: str) -> None:
        self.shape = shape
        self._codecs = [codec_of(type_, {}) for type_ in shape.fields.values()]
        table, key = f"{schema}.{shape.name}", shape.key
        marks = ", ".join(f"${place}" for place in range(1, len(shape.fields) + 1))
        sets = ", ".join(f"{name} = ${place}" for place, name in enumerate(shape.fields, 1))
        where = f"WHERE {key} = ${list(shape.fields).index(key) + 1}"
        self._insert = f"INSERT INTO {table} ({shape.columns}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608
        self._update = f"UPDATE {table} SET {sets} {where}"  # noqa: S608
        self._delete = f"DELETE FROM {table} WHERE {key} = $1"  # noqa: S608
        self._find = f"SELECT {shape.columns} FROM {table} WHERE {key} = $1"  # noqa: S608
        self._all = f"SELECT {shape.columns} FROM {table} WHERE {shape.kept} ORDER BY seq"  # noqa: S608

    def value(self, columns: Sequence[Any]) -> S:
        """Return the struct of a row of the shape's columns."""
        return read_row(self.shape, self._codecs, columns)

    async def find(self, connection: Connection, key: Any, *, lock: bool = False) -> S | None:
        """Return a row, or None; `lock`: others wait to change it until the transaction ends."""
        row = await connection.fetchrow(self._find + (" FOR UPDATE" if lock else ""), key)
        return None if row is None else self.value(tuple(row))

    async def find_all(self, connection: Connection) -> list[S]:
        """Return every row that an archive has, in order of insertion."""
        return [self.value(tuple(row)) for row in await connection.fetch(self._all)]

    async def insert(self, connection: Connection, value: S) -> bool:
        """Store a row; False, and no change, where another one has what only one may have."""
        done: str = await connection.execute(self._insert, *write_row(self.shape, self._codecs, value))
        return done.endswith(" 1")

    async def insert_many(self, connection: Connection, values: Sequence[S]) -> None:
        """Store rows but for those where another one has what only one may have."""
        await connection.executemany(self._insert, [write_row(self.shape, self._codecs, value) for value in values])

    async def update(self, connection: Connection, value: S) -> None:
        await connection.execute(self._update, *write_row(self.shape, self._codecs, value))

    async def delete(self, connection: Connection, key: Any) -> bool:
        """Erase a row; tell whether it was there."""
        done: str = await connection.execute(self._delete, key)
        return not done.endswith(" 0")


def make_tables(schema: str) -> dict[str, Table[Any]]:
    """Return every table of SHAPES by its name, in their order."""
    return {shape.name: Table(shape, schema) for shape in SHAPES}
