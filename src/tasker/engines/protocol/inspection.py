"""What is found out about a store without changing it, for `tasker doctor`."""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct


class SqliteState(Struct, frozen=True):
    """What was found. schema, known: numbers of the last migration of the file, and of this version.

    faults: what SQLite's quick check says; None if the file is too large for it. lost: a result whose file is missing.
    """

    size: int
    schema: int
    known: int
    faults: list[str] | None
    lost: str | None


class PostgresState(Struct, frozen=True):
    """What was found. version: of the server. missing: migrations that were not applied yet; all in a new database.

    skew: how far the server's clock is ahead of this machine's. round_trip: time of the quickest answer.
    is_direct: whether no pooler is in between. is_read_only: whether it takes no writes, as a standby does.
    """

    version: str
    is_new: bool
    missing: list[str]
    skew: timedelta
    round_trip: timedelta
    is_direct: bool
    is_read_only: bool
    keeps_statements: bool
