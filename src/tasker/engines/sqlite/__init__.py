"""The embedded engine: SQLite through apsw."""

from tasker.engines.sqlite.engine import SqliteEngine, open_sqlite

__all__ = ["SqliteEngine", "open_sqlite"]
