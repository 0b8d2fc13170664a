"""Looks at a database without changing it, for `tasker doctor`."""

from __future__ import annotations

import time
from datetime import timedelta

import asyncpg

from tasker.engines.postgres.connections import LOST, cannot_connect
from tasker.engines.postgres.pooler import carries_statements, is_direct, plain_connection
from tasker.engines.postgres.sql import migrations
from tasker.engines.protocol.inspection import PostgresState

_WITHIN = 5.0
"""Seconds for each answer."""


async def inspect_database(url: str, *, schema: str = "tasker") -> PostgresState:
    """Look at the database. Raises ConfigError if it cannot be reached."""
    try:
        async with plain_connection(url, _WITHIN) as connection:
            version = await connection.fetchval("SHOW server_version")
            is_new = not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{schema}.migration")
            rows = [] if is_new else await connection.fetch(f"SELECT name FROM {schema}.migration")  # noqa: S608
            known = {row["name"] for row in rows}
            skew, round_trip = timedelta(0), timedelta.max
            for _ in range(3):
                begun = time.time()
                theirs: float = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
                took = timedelta(seconds=time.time() - begun)
                if took < round_trip:
                    round_trip, skew = took, timedelta(seconds=theirs - begun) - took / 2
            is_read_only = await connection.fetchval("SHOW transaction_read_only") == "on"
            direct = await is_direct(connection)
            return PostgresState(
                version=version,
                is_new=is_new,
                missing=[step.name for step in migrations(schema) if step.name not in known],
                skew=skew,
                round_trip=round_trip,
                is_direct=direct,
                is_read_only=is_read_only,
                keeps_statements=direct or not await carries_statements(connection),
            )
    except (asyncpg.PostgresError, ValueError, *LOST) as error:
        raise cannot_connect(error) from error
