"""Connection poolers: whether a connection leads through one, and what that keeps from one transaction to the next.

A pooler in transaction mode (PgBouncer's pool_mode = transaction) gives each transaction any of its sessions with the
server. What belongs to a session is lost there: LISTEN, locks of a session, settings, often also prepared statements.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from tasker.engines.postgres.transaction import Connection
from tasker.errors import ConfigError

_LOOKS = 5
"""How often two connections are compared: behind a busy pooler they may have different sessions by chance."""


@asynccontextmanager
async def plain_connection(url: str, within: float) -> AsyncIterator[Connection]:
    """Open a connection that asks for nothing a pooler could refuse or lose. within: time limit in seconds."""
    connection = await asyncpg.connect(url, timeout=within, command_timeout=within, statement_cache_size=0)
    try:
        yield connection
    finally:
        await connection.close()


async def is_direct(connection: Connection) -> bool:
    """Tell whether a connection leads to the server itself: a pooler announces a process id of its own making."""
    return await _holds(connection, f"pg_backend_pid() = {connection.get_server_pid()}")


async def check_session(connection: Connection, url: str, variable: str, within: float) -> None:
    """Raise ConfigError if a connection to `url`, the value of `variable`, has no session of its own."""
    if not await is_direct(connection) and await _shares_sessions(url, within):
        raise ConfigError(
            f"{variable}: expected the database server itself, got a connection pooler in transaction mode, through"
            " which no process can listen; keep the pooler's URL in TASKER_DATABASE_URL, and set TASKER_LISTEN_URL to"
            " the server's own"
        )


async def check_same_database(connection: Connection, listening: Connection) -> None:
    """Raise ConfigError unless both lead to one database: a lock of the one must be held for the other."""
    key = secrets.randbits(62)
    await listening.execute(f"SELECT pg_advisory_lock({key})")
    try:
        if await _holds(connection, f"pg_try_advisory_xact_lock({key})"):
            raise ConfigError(
                "TASKER_LISTEN_URL: expected a direct way to the database of TASKER_DATABASE_URL, got another database"
                " or server"
            )
    finally:
        await listening.execute(f"SELECT pg_advisory_unlock({key})")


async def carries_statements(connection: Connection) -> bool:
    """Tell whether a pooler carries prepared statements from session to session: then it gives them other names."""
    name = f"tasker_{secrets.token_hex(8)}"
    async with connection.transaction():
        await connection.prepare("SELECT 1", name=name)
        is_ours = await _holds(connection, f"EXISTS (SELECT FROM pg_prepared_statements WHERE name = '{name}')")
        if is_ours:
            await connection.execute(f"DEALLOCATE {name}")
    return not is_ours


async def _shares_sessions(url: str, within: float) -> bool:
    """Tell whether a connection's statements run in sessions that other connections use too."""
    async with plain_connection(url, within) as one, plain_connection(url, within) as other:
        ones, others = set[Any](), set[Any]()
        for _ in range(_LOOKS):
            ones.add(await one.fetchval("SELECT pg_backend_pid()"))
            others.add(await other.fetchval("SELECT pg_backend_pid()"))
    return len(ones) > 1 or len(others) > 1 or bool(ones & others)


async def _holds(connection: Connection, condition: str) -> bool:
    """Ask by a simple query, which needs no prepared statement."""
    done: str = await connection.execute(f"SELECT WHERE {condition}")
    return done == "SELECT 1"
