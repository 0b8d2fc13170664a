"""The distributed engine: PostgreSQL through asyncpg, and PgQueuer."""

from tasker.engines.postgres.engine import PostgresEngine, open_postgres
from tasker.engines.postgres.storage import migrate

__all__ = ["PostgresEngine", "migrate", "open_postgres"]
