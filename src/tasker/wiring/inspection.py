"""What `tasker doctor` finds out about the store: nothing is changed, and a service may use it meanwhile."""

from __future__ import annotations

from tasker.config.settings import Settings
from tasker.engines.protocol.inspection import PostgresState, SqliteState
from tasker.engines.sqlite.inspection import inspect_file
from tasker.wiring.app import import_postgres

__all__ = ["inspect_postgres", "inspect_sqlite"]


def inspect_sqlite(settings: Settings) -> SqliteState | None:
    """Look at the database file; None if there is none yet. Raises ConfigError."""
    return inspect_file(settings.database_file) if settings.database_file.exists() else None


async def inspect_postgres(url: str) -> PostgresState:
    """Look at the PostgreSQL database. Raises ConfigError."""
    import_postgres()
    from tasker.engines.postgres.inspection import inspect_database

    return await inspect_database(url)
