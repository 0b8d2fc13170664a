"""The engines that the contract suite runs against. Add a new one to ENGINES."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from functools import cache
from pathlib import Path
from typing import Any

from tests.postgres import cluster

from tasker.clock import Clock
from tasker.engines.postgres import migrate, open_postgres
from tasker.engines.protocol import Engine
from tasker.engines.sqlite import open_sqlite

Opening = AbstractAsyncContextManager[Engine]


def _sqlite(folder: Path, clock: Clock, **options: Any) -> Opening:
    return open_sqlite(folder / "data" / "tasker.db", clock, **options)


def postgres_engine(folder: Path, clock: Clock, **options: Any) -> Opening:
    """Open an engine in a schema of its own for the folder, whose database has the time of `clock`.

    A schema is used by one test after another (`free_schemas`): to make one takes long. Its sessions find a function
    now() before PostgreSQL's own, and get the time whenever they are used.
    """

    async def tell_time(connection: Any) -> None:
        await connection.execute(_TELL_TIME, clock.now().isoformat())

    url = _clockwork_database()
    return open_postgres(
        url, schema=_schema_of(folder), session={"search_path": "clockwork, pg_catalog"}, on_acquire=tell_time,
        pool_size=4, elapsed=clock.elapsed, **options,
    )  # fmt: skip


_TELL_TIME = "SELECT pg_catalog.set_config('tasker.now', $1, false)"
_CLOCKWORK = """
CREATE SCHEMA clockwork;
CREATE FUNCTION clockwork.now() RETURNS timestamptz STABLE LANGUAGE sql
    AS $$ SELECT pg_catalog.current_setting('tasker.now')::timestamptz $$;

CREATE FUNCTION clockwork.clear(used text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    written text;
    one record;
BEGIN
    SET LOCAL session_replication_role = replica;  -- no triggers
    SELECT string_agg(format('%I.%I', used, relname), ', ') INTO written FROM pg_class
    WHERE relnamespace = used::regnamespace AND relkind = 'r' AND pg_relation_size(oid) > 0;
    EXECUTE 'TRUNCATE ' || written;
    FOR one IN SELECT relname FROM pg_class
               WHERE relnamespace = 'pristine'::regnamespace AND relkind = 'r' AND pg_relation_size(oid) > 0 LOOP
        EXECUTE format('INSERT INTO %I.%I SELECT * FROM pristine.%I', used, one.relname, one.relname);
    END LOOP;
    FOR one IN SELECT sequencename AS name, last_value AS last FROM pg_sequences WHERE schemaname = 'pristine' LOOP
        PERFORM setval(format('%I.%I', used, one.name)::regclass, coalesce(one.last, 1), one.last IS NOT NULL);
    END LOOP;
END $$;
"""
_taken: dict[Path, str] = {}
_free: list[str] = []
_numbers = itertools.count(1)


def _schema_of(folder: Path) -> str:
    """Return the schema of a folder's store: a new one, or one that is as new."""
    if folder not in _taken:
        _taken[folder] = _free.pop() if _free else f"store_{next(_numbers)}"
        cluster().sql(
            f"SELECT clockwork.clear('{_taken[folder]}') WHERE to_regnamespace('{_taken[folder]}') IS NOT NULL"
        )
    return _taken[folder]


def free_schemas() -> None:
    """Let the next tests use the schemas of this one, whose engines are closed."""
    _free.extend(_taken.values())
    _taken.clear()


@cache
def _clockwork_database() -> str:
    """Return the URL of a database with another now(), made once: this takes a process of its own."""
    server = cluster()
    server.sql(_CLOCKWORK)
    with ThreadPoolExecutor(1) as thread:  # a test's loop runs in this one
        thread.submit(lambda: asyncio.run(migrate(server.url, schema="pristine"))).result()
    return server.url


ENGINES: dict[str, Callable[..., Opening]] = {
    "postgres": postgres_engine,
    "sqlite": _sqlite,
}
"""By name: functions that open an engine with the folder's store."""
