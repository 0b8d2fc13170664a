"""The engines that the contract suite runs against. Add a new one to ENGINES."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import cache
from pathlib import Path
from typing import Any

from tests.postgres import cluster

from tasker.clock import Clock
from tasker.engines.postgres import open_postgres
from tasker.engines.protocol import Engine
from tasker.engines.sqlite import open_sqlite

Opening = AbstractAsyncContextManager[Engine]


def _sqlite(folder: Path, clock: Clock, **options: Any) -> Opening:
    return open_sqlite(folder / "data" / "tasker.db", clock, **options)


def postgres_engine(folder: Path, clock: Clock, **options: Any) -> Opening:
    """Open an engine in a schema of its own for the folder, whose database has the time of `clock`.

    Its sessions find a function now() before PostgreSQL's own, and get the time whenever they are used.
    """

    async def tell_time(connection: Any) -> None:
        await connection.execute(_TELL_TIME, clock.now().isoformat())

    schema = "t" + hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    return open_postgres(
        _clockwork_database(), schema=schema, session={"search_path": "clockwork, pg_catalog"}, on_acquire=tell_time,
        pool_size=4, elapsed=clock.elapsed, **options,
    )  # fmt: skip


_TELL_TIME = "SELECT pg_catalog.set_config('tasker.now', $1, false)"
_CLOCKWORK = """
CREATE SCHEMA clockwork;
CREATE FUNCTION clockwork.now() RETURNS timestamptz STABLE LANGUAGE sql
    AS $$ SELECT pg_catalog.current_setting('tasker.now')::timestamptz $$;
"""


@cache
def _clockwork_database() -> str:
    """Return the URL of a database with another now(), made once: this takes a process of its own."""
    server = cluster()
    server.sql(_CLOCKWORK)
    return server.url


ENGINES: dict[str, Callable[..., Opening]] = {
    "postgres": postgres_engine,
    "sqlite": _sqlite,
}
"""By name: functions that open an engine with the folder's store."""
