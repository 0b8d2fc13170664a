"""The embedded engine: SQLite through apsw."""

from tasker.engines.sqlite.engine import SqliteEngine

__all__ = ["SqliteEngine"]
