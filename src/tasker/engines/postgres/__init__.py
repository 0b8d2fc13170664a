"""The distributed engine: PostgreSQL through asyncpg, and PgQueuer."""

from tasker.engines.postgres.engine import PostgresEngine
from tasker.engines.postgres.storage import migrate

__all__ = ["PostgresEngine", "migrate"]
