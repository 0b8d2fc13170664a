"""The engines that the contract suite runs against. Add a new one to ENGINES."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import cache
from pathlib import Path
from typing import Any

from tests.postgres import cluster
from tests.stores import open_store

from tasker.clock import Clock
from tasker.engines.postgres import open_postgres
from tasker.engines.postgres.sql import migrations
from tasker.engines.protocol import Engine

Opening = AbstractAsyncContextManager[Engine]


def _sqlite(folder: Path, clock: Clock, **options: Any) -> Opening:
    return open_store(folder / "data" / "tasker.db", clock, **options)


def postgres_engine(folder: Path, clock: Clock, *, schema: str | None = None, **options: Any) -> Opening:
    """Open an engine whose database has the time of `clock`, by default in a schema of its own for the folder.

    Its sessions find a function now() before PostgreSQL's own, and get the time whenever they are used.
    """

    async def tell_time(connection: Any) -> None:
        await connection.execute(_TELL_TIME, clock.now().isoformat())

    return open_postgres(
        _clockwork_database(), schema=schema or own_schema(folder), session={"search_path": "clockwork, pg_catalog"},
        on_acquire=tell_time, pool_size=4, elapsed=clock.elapsed, **options,
    )  # fmt: skip


def own_schema(folder: Path) -> str:
    """Return the name of the schema that `postgres_engine` makes for a folder."""
    return "t" + hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def _postgres(folder: Path, clock: Clock, **options: Any) -> Opening:
    """Open an engine in a schema that one test uses after another (`free_schemas`): to make one takes long."""
    return postgres_engine(folder, clock, schema=schema_of(folder, clock), **options)


_TELL_TIME = "SELECT pg_catalog.set_config('tasker.now', $1, false)"
_CLOCKWORK = """
CREATE SCHEMA clockwork;
CREATE FUNCTION clockwork.now() RETURNS timestamptz STABLE LANGUAGE sql
    AS $$ SELECT pg_catalog.current_setting('tasker.now')::timestamptz $$;

CREATE FUNCTION clockwork.clear(used text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    one record;
BEGIN
    SET LOCAL session_replication_role = replica;  -- no triggers
    FOR one IN
        SELECT relname AS name, pg_relation_size(oid) > 1000000 AS is_large FROM pg_class
        WHERE relnamespace = used::regnamespace AND relkind = 'r' AND relname <> 'migration'
            AND pg_relation_size(oid) > 0
    LOOP  -- of few rows, DELETE takes a fifth of the time: TRUNCATE makes new files, for each index too
        EXECUTE format(CASE WHEN one.is_large THEN 'TRUNCATE %I.%I' ELSE 'DELETE FROM %I.%I' END, used, one.name);
    END LOOP;
    FOR one IN SELECT sequencename AS name FROM pg_sequences WHERE schemaname = used LOOP
        EXECUTE format('ALTER SEQUENCE %I.%I RESTART', used, one.name);
    END LOOP;
END $$;
"""
_FILLED = "api_key_version|webhook_dispatch|journal|journal_name|cursor_key|clock|lead|inbox_watch"
"""The tables that the migrations fill in a new store."""
_taken: dict[Path, str] = {}
_free: list[str] = []
_numbers = itertools.count(1)


def schema_of(folder: Path, clock: Clock) -> str:
    """Return the schema of a folder's store: a new one, or one that is as new."""
    if folder not in _taken and _free:
        _taken[folder] = _free.pop()
        cluster().execute(_as_new(_taken[folder], clock))
    return _taken.setdefault(folder, f"store_{next(_numbers)}")


def _as_new(schema: str, clock: Clock) -> str:
    """Return the statements that make a used schema as new."""
    filling = re.compile(rf"^INSERT INTO {schema}\.(?:{_FILLED})\b[^;]*;", re.MULTILINE)
    first_rows = [found[0] for step in migrations(schema) for found in filling.finditer(step.script)]
    return f"""
        SET search_path = clockwork, pg_catalog;
        SET tasker.now = '{clock.now().isoformat()}';
        SELECT clockwork.clear('{schema}');
        {"".join(first_rows)}
    """


def free_schemas() -> None:
    """Let the next tests use the schemas of this one, whose engines are closed."""
    _free.extend(_taken.values())
    _taken.clear()


@cache
def _clockwork_database() -> str:
    """Return the URL of a database with another now(), made once: this takes a process of its own."""
    server = cluster()
    server.sql(_CLOCKWORK)
    return server.url


ENGINES: dict[str, Callable[..., Opening]] = {
    "postgres": _postgres,
    "sqlite": _sqlite,
}
"""By name: functions that open an engine with the folder's store."""
