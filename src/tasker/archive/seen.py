"""Find duplicate names, however many there are: they are kept in a temporary database, on disk once it grows."""

from __future__ import annotations

import apsw


class Seen:
    """Names of several kinds, each allowed once."""

    def __init__(self) -> None:
        self._connection = apsw.Connection("")  # to SQLite, "" is a private temporary file
        self._connection.execute("PRAGMA journal_mode = off; PRAGMA synchronous = off; PRAGMA cache_size = -16384")
        self._connection.execute("CREATE TABLE seen (name TEXT PRIMARY KEY) WITHOUT ROWID; BEGIN")

    def add(self, kind: str, *name: str) -> None:
        """Raise ValueError if the name of this kind was added before."""
        self._connection.execute("INSERT OR IGNORE INTO seen VALUES (?)", ("\0".join((kind, *name)),))
        if not self._connection.changes():
            raise ValueError(f"expected each {kind} once, got {name[-1][:100]!r} again")

    def close(self) -> None:
        self._connection.close()
