"""Migrations of the schema, ours and PgQueuer's, under a lock: many processes may start at once.

Processes of the previous version keep running during a migration, so it only adds, or replaces an index or the function
of a trigger. A schema that is newer than this version is left alone.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version

import asyncpg
import structlog

from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.jobs import Jobs
from tasker.engines.postgres.sql import migrations
from tasker.engines.postgres.transaction import Connection
from tasker.errors import ConfigError

_LOCK = 0x7461736B_6D696772
"""The advisory lock of migrations: "taskmigr"."""
_WAIT_FOR_LOCKS = "3s"
"""How long a migration waits for a table's lock before it is retried: all later statements wait behind it."""
_TRIES = 20

_log = structlog.get_logger(__name__)


async def migrate(url: str, *, listen_url: str | None = None, schema: str = "tasker") -> list[str]:
    """Migrate the database, over `listen_url` if there is one; return the names of the migrations that were applied.

    Raises ConfigError.
    """
    settings = {"lock_timeout": _WAIT_FOR_LOCKS, "statement_timeout": "0"}
    connections = Connections(url, size=1, listen_url=listen_url, settings=settings)
    return await bring_up_to_date(connections, schema)


async def bring_up_to_date(connections: Connections, schema: str) -> list[str]:
    """Do what `migrate` does, over a connection of its own."""
    connection = await connections.connect_checked()
    try:
        await connection.execute("SET lock_timeout = 0")
        await connection.execute("SET statement_timeout = 0")
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(f"SET lock_timeout = '{_WAIT_FOR_LOCKS}'")
        done = await _apply(connection, schema)
        await connection.fetchval(f"SELECT '{{}}'::{schema}.pgqueuer_status[]")  # the pool knows this type from now on
        return done
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigError(
            f"TASKER_DATABASE_URL: expected a role that may create the schema {schema}, got: {error}; run"
            " `tasker migrate` once as one that may"
        ) from error
    finally:
        await connection.close()


async def _apply(connection: Connection, schema: str) -> list[str]:
    if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{schema}.migration"):
        await connection.execute(
            f"CREATE SCHEMA IF NOT EXISTS {schema};"
            f"CREATE TABLE {schema}.migration (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
    known = {row["name"] for row in await connection.fetch(f"SELECT name FROM {schema}.migration")}  # noqa: S608
    done = await _apply_pgqueuer(connection, schema, known)
    for step in migrations(schema):
        if step.name not in known:
            await _apply_patiently(connection, schema, step.name, step.script)
            done.append(step.name)
    return done


async def _apply_pgqueuer(connection: Connection, schema: str, known: set[str]) -> list[str]:
    """Install or upgrade PgQueuer's tables."""
    name = f"pgqueuer-{version('pgqueuer')}"
    if name in known:
        return []
    jobs = Jobs(schema)
    pgqueuer = jobs.pgqueuer(connection)
    if await pgqueuer.schema_is_installed():
        await pgqueuer.upgrade()
    else:
        await pgqueuer.install()
    await pgqueuer.optimize_autovacuum()
    trigger = jobs.settings.trigger
    # Our transactions send their own notifications.
    await connection.execute(f"ALTER TABLE {schema}.pgqueuer DISABLE TRIGGER {trigger}")
    await connection.execute(f"INSERT INTO {schema}.migration (name) VALUES ($1)", name)  # noqa: S608
    return [name]


async def _apply_patiently(connection: Connection, schema: str, name: str, script: str) -> None:
    """Run one migration; retry if a table is busy, because all writes would wait behind a waiting migration."""
    for tried in range(1, _TRIES + 1):
        try:
            async with connection.transaction():
                await connection.execute(script)
                await connection.execute(f"INSERT INTO {schema}.migration (name) VALUES ($1)", name)  # noqa: S608
            _log.info("store.migrated", migration=name)
            return
        except asyncpg.LockNotAvailableError:
            if tried == _TRIES:
                raise
            await asyncio.sleep(0.2 * tried)
