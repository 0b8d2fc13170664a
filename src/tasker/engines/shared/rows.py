"""The interface to a database in which shared stores are written, for both engines.

SQLite's statements never wait: there a store's coroutine runs to its end in one step. Values are Python's own types
(UUID, datetime, timedelta, bool); engines convert them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Protocol, TypeVar

from msgspec import Struct

from tasker.engines.shared.tables import Codec, Shape, Table, codec_of

T = TypeVar("T")
S = TypeVar("S", bound=Struct)
R = TypeVar("R", bound="Rows")


class Taken(Exception):
    """A unique constraint refused a row."""


class Rows(ABC):
    """The rows that one transaction or one read sees.

    is_retry: whether an earlier try of the transaction may have been stored already.
    """

    own: ClassVar[dict[Any, Codec]] = {}
    """Codecs of the types that the engine does not store as they are."""
    lock_row: ClassVar[str] = ""
    """SQL that is appended to a SELECT to lock its row until the transaction ends."""
    is_retry = False

    @abstractmethod
    async def _fetch(self, text: str, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """Return the rows that a statement returns."""

    @abstractmethod
    async def _run(self, text: str, values: Mapping[str, Any]) -> int:
        """Run a statement; return how many rows it has changed."""

    @abstractmethod
    async def _run_many(self, text: str, values: Iterable[Mapping[str, Any]]) -> None:
        """Run a statement for each of the mappings."""

    @abstractmethod
    def _query(self, name: str) -> str:
        """Return the text of a named query."""

    @abstractmethod
    def _table(self, shape: Shape[S]) -> Table[S]: ...

    @abstractmethod
    async def lock(self, kind: int, name: str) -> None:
        """Lock a name until the transaction ends; wait for other transactions that have locked it."""

    async def fetch(self, query: str, /, *kinds: Any, **values: Any) -> list[tuple[Any, ...]]:
        """Return rows. kinds: the types of their columns; a Shape at the end takes all remaining columns."""
        rows = await self._fetch(self._query(query), values)
        if isinstance(kinds[-1], Shape):
            table, count = self._table(kinds[-1]), len(kinds) - 1
            codecs = [codec_of(kind, self.own) for kind in kinds[:-1]]
            return [(*_read(codecs, row[:count]), table.value(row[count:])) for row in rows]
        codecs = [codec_of(kind, self.own) for kind in kinds]
        return [tuple(_read(codecs, row)) for row in rows]

    async def structs(self, query: str, shape: Shape[S], /, **values: Any) -> list[S]:
        """Return rows that have a shape's columns as structs."""
        table = self._table(shape)
        return [table.value(row) for row in await self._fetch(self._query(query), values)]

    async def numbered(self, query: str, shape: Shape[S], /, **values: Any) -> list[tuple[int, S]]:
        """Return rows that have a number and a shape's columns."""
        return [(number, value) for number, value in await self.fetch(query, int, shape, **values)]

    async def values(self, query: str, kind: type[T], /, **values: Any) -> list[T]:
        """Return rows that have one column, which is never null."""
        return [value for (value,) in await self.fetch(query, kind, **values)]

    async def value(self, query: str, kind: type[T], /, **values: Any) -> T | None:
        """Return the only column of the only row; None if there is no row, or it is null."""
        rows = await self.fetch(query, kind, **values)
        return rows[0][0] if rows else None

    async def count(self, query: str, /, **values: Any) -> int:
        """Return the number that a query counts."""
        return await self.value(query, int, **values) or 0

    async def run(self, query: str, /, **values: Any) -> int:
        """Run a query; return how many rows it has changed."""
        return await self._run(self._query(query), values)

    async def run_many(self, query: str, values: Iterable[Mapping[str, Any]]) -> None:
        """Run a query for each of the mappings."""
        await self._run_many(self._query(query), values)

    async def find(self, shape: Shape[S], key: Any, *, lock: bool = False) -> S | None:
        """Return a row, or None. lock: lock it against changes until the transaction ends."""
        table = self._table(shape)
        rows = await self._fetch(table.find + (self.lock_row if lock else ""), {shape.key: key})
        return table.value(rows[0]) if rows else None

    async def find_all(self, shape: Shape[S]) -> list[S]:
        """Return every row that belongs in an archive, in order of insertion."""
        table = self._table(shape)
        return [table.value(row) for row in await self._fetch(table.all, {})]

    async def insert(self, shape: Shape[S], value: S) -> bool:
        """Store a row. False, and no change, if it violates a unique constraint."""
        table = self._table(shape)
        return await self._run(table.insert, table.row(value)) > 0

    async def insert_many(self, shape: Shape[S], values: Sequence[S]) -> None:
        """Store rows, except those that violate a unique constraint."""
        table = self._table(shape)
        await self._run_many(table.insert, [table.row(value) for value in values])

    async def update(self, shape: Shape[S], value: S) -> None:
        """Replace an existing row."""
        table = self._table(shape)
        await self._run(table.update, table.row(value))

    async def delete(self, shape: Shape[Any], key: Any) -> bool:
        """Erase a row; tell whether it existed."""
        return await self._run(self._table(shape).delete, {shape.key: key}) > 0


class Database(Protocol[R]):
    """One engine's reads and transactions."""

    def read(self, work: Callable[[R], Coroutine[Any, Any, T]], /) -> Awaitable[T]:
        """Read for a client; the number of such reads at a time is limited: claims and writes need connections."""

    def look(self, work: Callable[[R], Coroutine[Any, Any, T]], /) -> Awaitable[T]:
        """Read for the service itself."""

    def write(self, work: Callable[[R], Coroutine[Any, Any, T]], /, *, size: int = 0) -> Awaitable[T]:
        """Run work in a transaction, again if its connection breaks; return once it is durable.

        size: the bytes that it writes, if many. Raises Taken, and the errors of the work, which may raise RequestError
        only before its first write.
        """

    async def erase_until(self, rows: R, /) -> datetime:
        """Return the time before which expired rows may be erased."""


def _read(codecs: Sequence[Codec], columns: Sequence[Any]) -> list[Any]:
    return [None if one is None else codec.read(one) for codec, one in zip(codecs, columns, strict=True)]
