"""The database file: check its place, lock it for one process, open and migrate it.

The file itself is only ever opened by SQLite: POSIX drops a process's locks on a file when any descriptor of it is
closed, and later commits could be lost (sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import NamedTuple

import apsw
import psutil
import structlog

from tasker.engines.sqlite.presence import Presence
from tasker.engines.sqlite.sql import QUERIES, migrations
from tasker.engines.sqlite.transaction import Transaction
from tasker.errors import ConfigError, StoreInUse, Unavailable

LOG_SIZE = 64 << 20
"""Size in bytes to which the WAL is cut once it starts anew. It grows while a reader holds on to an old state."""
_SAFE_SQLITE = (3, 51, 3)
_APPLICATION_ID = 0x7A5C3E12
_LEAST_FREE = 8 << 20
"""Bytes of free disk below which the store is not ready for more tasks."""
_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_log = structlog.get_logger(__name__)
_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "fuse.sshfs", "9p", "afs", "ceph", "glusterfs")


class HolderLock:
    """A lock for one process at a time: an flock on a file next to the database, which also names the holder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock. Raises StoreInUse naming the process that has it, ConfigError, OSError."""
        descriptor = self._open()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 100).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise StoreInUse(
                f"{self._path.parent} is in use by {holder}: stop that one first, or name another folder by"
                " TASKER_DATA_DIR or --data-dir",
                holder,
            ) from None
        self._descriptor = descriptor
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode())

    def _open(self) -> int:
        """Open the file, but never through a link, because it is overwritten. Raises ConfigError, OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        if self._path.is_symlink() or (self._path.exists() and not self._path.is_file()):
            raise ConfigError(f"{self._path}: expected a plain file, got a link, a folder or the like: remove it")
        return os.open(self._path, flags, 0o600)

    def release(self) -> None:
        """Release the lock. Idempotent."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def prepare_folder(folder: Path) -> None:
    """Make the folder, for its owner alone. An existing one keeps its mode: it may have other uses.

    Raises ConfigError if the database would not be safe there.
    """
    try:
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise ConfigError(f"TASKER_DATA_DIR: expected a folder that can be made, got {folder} ({error})") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"TASKER_DATA_DIR: expected a folder that this user can write to, got {folder}")
    kind = _file_system(folder)
    if kind.startswith(_NETWORK_FILE_SYSTEMS):
        raise ConfigError(
            f"TASKER_DATA_DIR: expected a local disk, got {folder} on {kind}, whose locks SQLite cannot trust"
        )


def warn_of_others(database: Path) -> None:
    """Log each path by which another user could change or replace the database, and so make the service run code."""
    folder = database.parent.resolve()
    own = [folder / name for name in (database.name, f"{database.name}-wal", f"{database.name}-shm", "results")]
    for place in (*folder.parents, folder, *own):
        try:
            found = place.lstat()
        except OSError:
            continue  # it does not exist, or may not be looked at
        is_shared = bool(found.st_mode & stat.S_ISVTX)  # like /tmp: only its owner may remove or rename a file in it
        if found.st_mode & _BY_OTHERS and not (is_shared and place in folder.parents):
            fix = "give TASKER_DATA_DIR a folder of its own" if is_shared else f"chmod go-w {quote(str(place))}"
            _log.warning("store.writable_by_others", path=str(place), fix=fix)
        elif found.st_uid not in (0, os.geteuid()):
            _log.warning("store.owned_by_another_user", path=str(place), owner=found.st_uid, user=os.geteuid())


def _file_system(folder: Path) -> str:
    resolved = folder.resolve()
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    return next((mounts[place] for place in (resolved, *resolved.parents) if place in mounts), "")


def check_space(folder: Path) -> None:
    """Raise Unavailable if the disk is almost full: a small write may still succeed where a task would not fit."""
    try:
        free = _free_space(folder)
    except OSError as error:
        raise Unavailable(f"the data folder (TASKER_DATA_DIR) cannot be looked at: {error.strerror}") from error
    if free < _LEAST_FREE:
        raise Unavailable(
            f"the disk of TASKER_DATA_DIR is full: {free >> 20} MiB are left of {_LEAST_FREE >> 20} needed"
        )


def probe(tx: Transaction) -> None:
    """Write a value, to prove that the database can be written."""
    tx.execute(QUERIES["probe"], (tx.now,))


def _free_space(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


class OpenDatabase(NamedTuple):
    """An open database: its lock, and connections for writes, for reads of single rows, and for scans."""

    path: Path
    lock: HolderLock
    writer: apsw.Connection
    points: apsw.Connection
    scans: apsw.Connection
    presence: Presence
    migrated: list[str]


def open_database(path: Path) -> OpenDatabase:
    """Lock, open and migrate the database at `path`; end the leases of the process before.

    Raises ConfigError, StoreInUse, and Unavailable if the disk is full; the lock is released then.
    """
    path = path.absolute()  # a task may change the process's working directory
    prepare_folder(path.parent)
    lock = HolderLock(path.with_name("tasker.lock"))
    try:
        with opening(path):
            lock.acquire()
            writer, migrated = open_writer(path)
            writer.execute(QUERIES["expire_all"])
            points, scans = connect(path, read_only=True), connect(path, read_only=True)
            presence = Presence(path, writer)
        warn_of_others(path)
    except BaseException:
        lock.release()
        raise
    return OpenDatabase(path, lock, writer, points, scans, presence, migrated)


@contextlib.contextmanager
def opening(path: Path) -> Iterator[None]:
    """Turn errors of opening a database into Unavailable if the disk is full, which may pass, else ConfigError."""
    try:
        yield
    except (OSError, apsw.Error) as error:
        full = getattr(error, "errno", None) == errno.ENOSPC or isinstance(error, apsw.FullError)
        if full or _free_space(path.parent) < _LEAST_FREE:
            raise Unavailable(
                f"TASKER_DATA_DIR: expected space on the disk, got a full one at {path.parent} ({error}): free some"
            ) from error
        raise ConfigError(f"{path}: expected a Tasker database that can be read and written, got {error}") from error


def connect(path: Path, *, read_only: bool = False) -> apsw.Connection:
    """Open the database with all safety settings. Raises ConfigError if this version of SQLite is not safe."""
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < _SAFE_SQLITE:
        raise ConfigError(
            f"SQLite {apsw.sqlite_lib_version()} can corrupt a WAL: expected 3.51.3 or later; upgrade apsw"
        )
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection(str(path), flags=flags, statementcachesize=200)
    connection.pragma("trusted_schema", False)
    connection.pragma("mmap_size", 0)
    connection.pragma("temp_store", 2)
    connection.pragma("cache_size", -65536)
    return connection


def open_writer(path: Path) -> tuple[apsw.Connection, list[str]]:
    """Open the writing connection, make the file safe and migrate it; return it and the names of the migrations."""
    umask = os.umask(0o077)
    try:
        connection = connect(path)  # without a busy timeout, which would block the event loop: GroupCommit retries
        connection.pragma("auto_vacuum", 2)  # has an effect only in an empty file
        connection.pragma("journal_mode", "wal")
    finally:
        os.umask(umask)
    connection.pragma("synchronous", 2)  # FULL: NORMAL lost acknowledged rows in a power-cut test
    connection.pragma("secure_delete", True)
    connection.pragma("wal_autocheckpoint", 4000)
    connection.pragma("journal_size_limit", LOG_SIZE)
    return connection, _migrate(connection, path)


def _migrate(connection: apsw.Connection, path: Path) -> list[str]:
    known = migrations()
    version = connection.pragma("user_version")
    if version > known[-1][0]:
        raise ConfigError(f"{path} was written by a newer Tasker (schema {version}, known {known[-1][0]}): upgrade")
    is_empty = connection.execute("SELECT count(*) FROM sqlite_schema").get == 0
    if not is_empty and connection.pragma("application_id") != _APPLICATION_ID:
        raise ConfigError(f"{path} is not a Tasker database: choose another TASKER_DATA_DIR")
    with connection if is_empty else contextlib.nullcontext():  # a new file takes one commit, not one for each step
        for number, script in known:
            if number > version:
                with connection:
                    connection.execute(script).fetchall()
                    connection.pragma("application_id", _APPLICATION_ID)
                    connection.pragma("user_version", number)
    return [f"{number:04}" for number, _ in known if number > version]
