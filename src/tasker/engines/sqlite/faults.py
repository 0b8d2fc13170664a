"""Classify SQLite's errors: faults of the disk or the machine become Unavailable for the caller."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import apsw

from tasker.errors import Unavailable

T = TypeVar("T")

ENVIRONMENT = (
    apsw.FullError,
    apsw.IOError,
    apsw.NoMemError,
    apsw.CantOpenError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.ReadOnlyError,
    apsw.ProtocolError,
    apsw.CorruptError,
    apsw.NotADBError,
)
"""Faults of the disk or the machine, not of one item of work."""

_TAKEN = frozenset((apsw.SQLITE_CONSTRAINT_UNIQUE, apsw.SQLITE_CONSTRAINT_PRIMARYKEY, apsw.SQLITE_CONSTRAINT_ROWID))


def is_taken(error: Exception) -> bool:
    """Return whether the error is a violated unique constraint."""
    return getattr(error, "extendedresult", None) in _TAKEN


def refusal_of(error: BaseException) -> BaseException:
    """Return the error for the caller of a write: Unavailable for a fault of ENVIRONMENT, else the error itself."""
    if isinstance(error, ENVIRONMENT):
        return Unavailable(f"the store cannot write now ({type(error).__name__})", retry_after=timedelta(seconds=5))
    return error


def reading(query: Callable[..., T], *arguments: object) -> T:
    """Convert faults of ENVIRONMENT in a query to Unavailable."""
    try:
        return query(*arguments)
    except ENVIRONMENT as error:
        raise Unavailable(
            f"the store cannot be read now ({type(error).__name__})", retry_after=timedelta(seconds=5)
        ) from error
