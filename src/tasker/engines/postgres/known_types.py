"""Connections that know the types of our statements, and do not ask the server about each of them.

asyncpg asks about every type that it has no codec for, once on each connection. Built-in types have the same number on
every server; what one connection has learned about other types, the next ones of the process need not ask again.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import asyncpg

_ARRAYS = {
    1000: ("bool", 16),
    1001: ("bytea", 17),
    1003: ("name", 19),
    1005: ("int2", 21),
    1007: ("int4", 23),
    1016: ("int8", 20),
    1022: ("float8", 701),
    1185: ("timestamptz", 1184),
    1187: ("interval", 1186),
    2951: ("uuid", 2950),
    3807: ("jsonb", 3802),
}
"""The arrays among PostgreSQL's built-in types that we use: name and number of their elements."""
_NOT_ASKED = SimpleNamespace(name="not asked")
"""Stands for the statement of a question; it has a name, so asyncpg sees that no unnamed statement was overwritten."""


def knowing_connection() -> type[asyncpg.Connection]:
    """Return a class of connections that share what they know about types: for connections to one database."""
    known: dict[int, list[Any]] = {number: [_array(number, *element)] for number, element in _ARRAYS.items()}

    class Knowing(asyncpg.Connection):  # type: ignore[misc]
        async def _introspect_types(self, typeoids: Iterable[int], within: float | None) -> tuple[list[Any], Any]:
            """Return the rows that describe these types; asyncpg calls it for the types it has no codec for."""
            numbers = list(typeoids)
            if all(number in known for number in numbers):
                return [row for number in numbers for row in known[number]], _NOT_ASKED
            rows, statement = await super()._introspect_types(numbers, within)
            for row in rows:
                known.setdefault(row["oid"], rows)
            return rows, statement

    return Knowing


def _array(number: int, name: str, element: int) -> dict[str, Any]:
    """Return what the server would say about an array."""
    return {
        "oid": number, "ns": "pg_catalog", "name": f"_{name}", "kind": b"b", "basetype": None, "elemtype": element,
        "elemdelim": b",", "elemtype_name": name, "range_subtype": None, "attrtypoids": None, "attrnames": None,
    }  # fmt: skip
