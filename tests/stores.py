"""New stores of SQLite for tests: copies of one, as its migrations take most of the time."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tasker.clock import Clock
from tasker.engines.sqlite import SqliteEngine, open_sqlite
from tasker.engines.sqlite.storage import connect, open_writer

_OWN = "UPDATE journal_name SET name = randomblob(4); UPDATE cursor_key SET secret = randomblob(64);"
"""What the migrations make anew for each store."""


def open_store(path: Path, clock: Clock, **options: Any) -> AbstractAsyncContextManager[SqliteEngine]:
    """Open the store at `path` as `open_sqlite` does; a new one is a copy."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(_new_file())
        with closing(connect(path)) as connection:
            connection.pragma("synchronous", 0)
            connection.execute(_OWN)
    return open_sqlite(path, clock, **options)


@cache
def _new_file() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tasker.db"
        connection, _ = open_writer(path)
        connection.close()
        return path.read_bytes()
