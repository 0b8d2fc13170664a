"""Submit tasks in a transaction of your own, where your tables and Tasker's are in one PostgreSQL database.

The task exists if the transaction commits, and not if it rolls back. No driver is imported: use the one you have.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol, Unpack, overload
from uuid import UUID

from tasker.tasktypes.options import MARK
from tasker.tasktypes.submit_options import TaskOptions
from tasker.validation.encoding import NotJson, encode_strict, place_of_fault

__all__ = ["TaskOptions", "submit"]

_KNOWN = "a connection of psycopg, asyncpg or SQLAlchemy, a session of SQLAlchemy, or a connection of the DB-API"


class SyncConnection(Protocol):
    """A connection or session whose calls return at once: of psycopg, SQLAlchemy, or another driver of the DB-API."""

    def commit(self) -> None: ...


class AsyncConnection(Protocol):
    """A connection or session whose calls are awaited: of psycopg or SQLAlchemy."""

    def commit(self) -> Coroutine[Any, Any, None]: ...


class AsyncpgConnection(Protocol):
    """A connection of asyncpg."""

    @property
    def fetchval(self) -> Callable[..., Awaitable[Any]]: ...


Params = Mapping[str, Any] | Sequence[Any] | None


@overload
def submit(
    connection: AsyncConnection | AsyncpgConnection,
    type: str | Callable[..., Any],
    params: Params = None,
    *,
    owner: str = "",
    schema: str = "tasker",
    **options: Unpack[TaskOptions],
) -> Awaitable[UUID]: ...
@overload
def submit(
    connection: SyncConnection,
    type: str | Callable[..., Any],
    params: Params = None,
    *,
    owner: str = "",
    schema: str = "tasker",
    **options: Unpack[TaskOptions],
) -> UUID: ...
def submit(
    connection: Any,
    type: str | Callable[..., Any],
    params: Params = None,
    *,
    owner: str = "",
    schema: str = "tasker",
    **options: Any,
) -> UUID | Awaitable[UUID]:
    """Submit a task in the connection's current transaction; return its id, of an async connection an awaitable of it.

    type: its name, or the function. params: by name or by position. owner: whose task it is, where keys are used.
    schema: where Tasker's tables are. It is validated once the transaction has committed: an invalid one becomes a
    failed task that says why.
    Raises TypeError (not such a connection, an unknown option, params of another type), ValueError (a value that JSON
    cannot hold), and the errors of the driver: a malformed name of the type, a role that may not submit.
    """
    values = _name_of(type), _encode("params", _listed(params)), _encode("options", _plain(options)), owner
    return _call(connection, f'"{schema.replace(chr(34), "")}".submit', values)


def _name_of(type_: str | Callable[..., Any]) -> str:
    if isinstance(type_, str):
        return type_
    name = getattr(getattr(type_, MARK, None), "name", None) or getattr(type_, "__name__", None)
    if not isinstance(name, str):
        raise TypeError(f"expected the name of a task type or a @task function, got {type_!r:.200}")
    return name


def _listed(params: Params) -> Any:
    if params is None:
        return []
    if isinstance(params, str | bytes) or not isinstance(params, Mapping | Sequence):
        raise TypeError(f"expected params as a dict or a list, got {type(params).__name__}")
    return dict(params) if isinstance(params, Mapping) else list(params)


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    unknown = options.keys() - TaskOptions.__optional_keys__
    if unknown:
        raise TypeError(f"unknown options: {', '.join(sorted(unknown))}")
    given = {name: value for name, value in options.items() if value is not None}
    return {name: one.total_seconds() if isinstance(one, timedelta) else one for name, one in given.items()}


def _encode(what: str, value: Any) -> str:
    try:
        return encode_strict(value).decode()
    except NotJson as error:
        raise ValueError(f"the task is not submitted, for {what}{place_of_fault(value)}: {error}") from None


def _call(connection: Any, function: str, values: tuple[str, ...]) -> UUID | Awaitable[UUID]:
    """Call the function of the database as the connection's driver does."""
    drivers = {base.__module__.partition(".")[0] for base in type(connection).__mro__}
    if "sqlalchemy" in drivers and hasattr(connection, "execute"):
        return _by_sqlalchemy(connection, function, values)
    if hasattr(connection, "fetchval"):
        return _awaited(connection.fetchval(f"SELECT {function}($1::text, $2::text, $3::text, $4::text)", *values))
    if not hasattr(connection, "cursor"):
        raise TypeError(f"expected {_KNOWN}, got {type(connection).__name__}")
    statement = f"SELECT {function}(%s::text, %s::text, %s::text, %s::text)"
    if "psycopg" in drivers:
        from psycopg.rows import tuple_row  # the caller has it

        cursor = connection.cursor(row_factory=tuple_row)
    else:
        cursor = connection.cursor()
    if inspect.iscoroutinefunction(cursor.execute):
        return _by_async_cursor(cursor, statement, values)
    with cursor:
        cursor.execute(statement, values)
        return _read(cursor.fetchone())


async def _by_async_cursor(cursor: Any, statement: str, values: tuple[str, ...]) -> UUID:
    async with cursor:
        await cursor.execute(statement, values)
        return _read(await cursor.fetchone())


def _by_sqlalchemy(connection: Any, function: str, values: tuple[str, ...]) -> UUID | Awaitable[UUID]:
    from sqlalchemy import text  # the caller has it

    names = ("type", "params", "options", "owner")
    arguments = ", ".join(f"CAST(:{name} AS text)" for name in names)
    done = connection.execute(text(f"SELECT {function}({arguments})"), dict(zip(names, values, strict=True)))
    return _first_of(done) if inspect.isawaitable(done) else _as_uuid(done.scalar_one())


async def _first_of(result: Awaitable[Any]) -> UUID:
    return _as_uuid((await result).scalar_one())


async def _awaited(value: Awaitable[Any]) -> UUID:
    return _as_uuid(await value)


def _read(row: Iterable[Any]) -> UUID:
    """Return the id in a row, which some drivers give by name."""
    return _as_uuid(next(iter(row.values() if isinstance(row, Mapping) else row)))


def _as_uuid(value: Any) -> UUID:
    return UUID(str(value))
