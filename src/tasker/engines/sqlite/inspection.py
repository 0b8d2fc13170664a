"""Looks at a database that a service may use, for `tasker doctor`: only SQLite opens it, and only to read."""

from __future__ import annotations

import contextlib
from pathlib import Path

import apsw

from tasker.engines.protocol.inspection import SqliteState
from tasker.engines.sqlite.backups import find_lost_result
from tasker.engines.sqlite.sql import migrations
from tasker.engines.sqlite.storage import connect
from tasker.errors import ConfigError

_SMALL = 256 << 20
"""Bytes of a database that is checked as a whole: 0.1 s for each 30 MB or so."""


def inspect_file(path: Path) -> SqliteState:
    """Look at a database. Raises ConfigError if it cannot be read as one."""
    size = path.stat().st_size
    try:
        with contextlib.closing(connect(path, read_only=True)) as connection:
            connection.set_busy_timeout(5_000)
            schema: int = connection.pragma("user_version")
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)")] if size <= _SMALL else None
            lost = find_lost_result(connection, path.with_name("results")) if size <= _SMALL else None
    except apsw.Error as error:
        raise ConfigError(f"{path} cannot be read as a database of Tasker: {error}") from error
    faults = None if found is None else [fault for fault in found if fault != "ok"]
    return SqliteState(size, schema, migrations()[-1][0], faults, lost)
