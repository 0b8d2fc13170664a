"""Tables of structs in SQLite: see engines/tables.py."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

import apsw
from msgspec import Struct

from tasker.clock import from_micros, to_micros
from tasker.engines.shared.tables import SHAPES, Codec, Shape, codec_of, read_row, write_row

S = TypeVar("S", bound=Struct)
_MICRO = timedelta(microseconds=1)
_OWN = {
    UUID: Codec(lambda value: value.bytes, lambda column: UUID(bytes=column)),
    datetime: Codec(to_micros, from_micros),
    timedelta: Codec(lambda value: value // _MICRO, lambda column: timedelta(microseconds=column)),
    bool: Codec(int, bool),
}


class Table(Generic[S]):
    """The table of a shape: its statements, on any connection."""

    def __init__(self, shape: Shape[S]) -> None:
        self.shape = shape
        self._codecs = [codec_of(type_, _OWN) for type_ in shape.fields.values()]
        self._key = codec_of(shape.key_type, _OWN)
        marks = ", ".join("?" * len(shape.fields))
        sets = ", ".join(f"{name} = ?" for name in shape.fields)
        self._insert = f"INSERT INTO {shape.name} ({shape.columns}) VALUES ({marks})"  # noqa: S608
        self._update = f"UPDATE {shape.name} SET {sets} WHERE {shape.key} = ?"  # noqa: S608
        self._delete = f"DELETE FROM {shape.name} WHERE {shape.key} = ?"  # noqa: S608
        self._find = f"SELECT {shape.columns} FROM {shape.name} WHERE {shape.key} = ?"  # noqa: S608
        self._all = f"SELECT {shape.columns} FROM {shape.name} WHERE {shape.kept} ORDER BY seq"  # noqa: S608

    def value(self, columns: Sequence[Any]) -> S:
        """Return the struct of a row of the shape's columns."""
        return read_row(self.shape, self._codecs, columns)

    def row(self, value: S) -> list[Any]:
        """Return the columns of a struct's row, in the shape's order."""
        return write_row(self.shape, self._codecs, value)

    def find(self, connection: apsw.Connection, key: Any) -> S | None:
        row = connection.execute(self._find, (self._key.write(key),)).fetchone()
        return None if row is None else self.value(row)

    def find_all(self, connection: apsw.Connection) -> list[S]:
        """Return every row that an archive has, in order of insertion."""
        return [self.value(row) for row in connection.execute(self._all)]

    def insert(self, connection: apsw.Connection, value: S) -> None:
        connection.execute(self._insert, self.row(value))

    def update(self, connection: apsw.Connection, value: S) -> None:
        key = self._key.write(getattr(value, self.shape.key))
        connection.execute(self._update, (*self.row(value), key))

    def delete(self, connection: apsw.Connection, key: Any) -> bool:
        """Erase a row; tell whether it was there."""
        connection.execute(self._delete, (self._key.write(key),))
        return bool(connection.changes())


TABLES: dict[str, Table[Any]] = {shape.name: Table(shape) for shape in SHAPES}
"""Every table of SHAPES by its name, in their order."""
