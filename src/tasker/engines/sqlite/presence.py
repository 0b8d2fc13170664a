"""Check that the files which SQLite has open are still the ones at their paths.

A file that is deleted, moved or replaced stays open, and SQLite goes on writing to it: such commits succeed, and are
lost once the process ends. Only `os.stat` is used: opening a file would drop SQLite's locks on it (storage.py).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import apsw
import structlog

_WAL_HEADER, _FRAME_HEADER = 32, 24
"""Bytes of the WAL before its first frame, and of a frame before its page (sqlite.org/fileformat2.html)."""
_PUT_BACK = "put it back as it was, or stop the service and restore a backup: nothing is stored until then"
_RESTART = "restart the service, which saves what that file held as it ends: nothing is stored until then"

_log = structlog.get_logger(__name__)


class _File(NamedTuple):
    path: str
    device: int
    inode: int


class Presence:
    """The files of one open database, as they were when it was opened.

    connection: the writing one; it is asked for sizes while no transaction is under way.
    Raises OSError if a file does not exist: make one after the first transaction, and keep the connection open.
    """

    def __init__(self, path: Path, connection: apsw.Connection) -> None:
        self._folder = path.parent
        self._connection = connection
        self._page_size: int = connection.pragma("page_size")
        self._database = _identify(f"{path}")
        self._log = _identify(f"{path}-wal")
        self._shared = _identify(f"{path}-shm")
        self._sizes = (0, 0)
        self.lost: str | None = None

    def look(self, *, thorough: bool = True) -> str | None:
        """Return what is wrong with the files and what to do; None if they are in place. Takes some microseconds.

        thorough: check the shared-memory file as well, on which no acknowledged write depends.
        """
        before, self.lost = self.lost, self._find_fault(thorough)
        if self.lost is not None and before is None:
            _log.error("store.files_lost", folder=str(self._folder), reason=self.lost)
            self._save_log()
        elif self.lost is None and before is not None:
            _log.info("store.files_back", folder=str(self._folder))
        return self.lost

    def _find_fault(self, thorough: bool) -> str | None:
        sizes = []
        for file in (self._database, self._log, self._shared)[: 3 if thorough or self.lost else 2]:
            try:
                found = os.stat(file.path)
            except OSError as error:
                return self._describe_missing(file, error)
            if (found.st_dev, found.st_ino) != (file.device, file.inode):
                return self._describe(file, "was replaced by another file")
            sizes.append(found.st_size)
        return self._find_cut(sizes[0], sizes[1])

    def _find_cut(self, database: int, log: int) -> str | None:
        """Return what is wrong with the sizes. Ask SQLite only if a file is smaller than before."""
        before, self._sizes = self._sizes, (database, log)
        if database >= before[0] and log >= before[1]:
            return None
        pages = self._connection.pragma("page_count")
        frames, _ = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
        is_cut = database < before[0] and database < pages * self._page_size
        is_log_cut = frames > 0 and log < _WAL_HEADER + frames * (_FRAME_HEADER + self._page_size)
        if not is_cut and not is_log_cut:
            return None
        self._sizes = before  # keep the old size, so that the next check finds the fault again
        return self._describe(self._database if is_cut else self._log, "was cut short by another program")

    def _describe_missing(self, file: _File, error: OSError) -> str:
        if not isinstance(error, FileNotFoundError):
            return self._describe(file, f"cannot be looked at ({error.strerror})")
        if not self._folder.exists():
            return f"the data folder (TASKER_DATA_DIR) was deleted or moved; {_PUT_BACK}"
        return self._describe(file, "was deleted or moved")

    def _describe(self, file: _File, what: str) -> str:
        advice = _PUT_BACK if file is self._database else _RESTART
        return f"{os.path.basename(file.path)} in the data folder {what}; {advice}"

    def _save_log(self) -> None:
        """Move the content of an unlinked WAL into the database, so that kill -9 cannot lose it."""
        if not _is_in_place(self._database) or _is_in_place(self._log):
            return
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            _log.error("store.log_not_saved", reason=str(error))


def _identify(path: str) -> _File:
    found = os.stat(path)
    return _File(path, found.st_dev, found.st_ino)


def _is_in_place(file: _File) -> bool:
    try:
        return _identify(file.path) == file
    except OSError:
        return False
