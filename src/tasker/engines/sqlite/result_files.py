"""Large results: each is a file next to the database, and the task's row refers to it.

A file's name ends with a digest of its content: a file that a person or the disk has changed is never returned as a
result. Names are checked wherever a reference is followed, as the database can also be changed by hand.

A file and its name are on disk before the row that refers to it is committed. It is removed once the row's erasure is
durable and no query can still see the row: no row ever refers to a file that does not exist. A crash in between leaves
a file without a row; files that an earlier process has left are removed in small steps after the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import apsw
import msgspec
import structlog
from msgspec import Raw, structs

from tasker.engines.sqlite.sql import QUERIES
from tasker.errors import Unavailable
from tasker.model import Lease, Task

DEFAULT_OVER = 256 << 10
"""Largest result, in bytes, that is stored in its row."""
_MARK = b"\0"
"""The first byte of a reference; no JSON text begins with it."""
_NAME = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[0-9a-f]{12}(?:\.(?P<digest>[0-9a-f]{16}))?")
"""A file's name: the task's id, a random part, and the digest, which files of earlier versions lack."""
_DIGEST_LENGTH = 16
_NO_NAME = "(no name of a result's file)"
_THREADS = 2

_log = structlog.get_logger(__name__)


def is_reference(result: Raw | bytes | None) -> bool:
    """Return whether the result column of a row refers to a file."""
    return result is not None and memoryview(result)[:1] == _MARK


class Results:
    """The result files of one store, in `folder`. over: the largest result, in bytes, that has no file."""

    def __init__(self, folder: Path, over: int) -> None:
        self.over = over
        self._folder = folder
        self._unsure: dict[tuple[Lease, int], bytes] = {}
        self._left = os.listdir(folder) if folder.exists() else []  # of earlier processes
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="tasker-results")

    def close(self) -> None:
        """Finish writes and removals under way."""
        self._threads.shutdown()

    @contextlib.asynccontextmanager
    async def kept(self, lease: Lease, result: bytes) -> AsyncIterator[Stored]:
        """Write an attempt's result to a file; remove it at the end of the block unless `is_stored` was set.

        After a failed commit the file stays for the next try: after a power cut the commit may turn out to be stored.
        """
        key = lease, hash(result)
        reference = self._unsure.pop(key, None) or await self.write(lease.task_id, result)
        stored = Stored(reference)
        try:
            yield stored
        except Unavailable:
            self._unsure[key] = reference
            raise
        if not stored.is_stored:
            await self.remove([reference])

    async def write(self, task_id: UUID, result: bytes) -> bytes:
        """Write a result durably; return a reference to it. Raises Unavailable."""
        name: str = await asyncio.get_running_loop().run_in_executor(self._threads, self._write, task_id, result)
        return _MARK + name.encode()

    async def remove(self, references: Iterable[bytes]) -> None:
        """Remove files that no row refers to any more."""
        names = [name for name in map(name_of, references) if name is not None]
        if names:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._remove_all, names)

    async def load(self, task: Task) -> Task | None:
        """Return a task with its result instead of the reference; None if erased meanwhile. Raises Unavailable."""
        text = await asyncio.get_running_loop().run_in_executor(self._threads, self.find, bytes(task.result or b""))
        return None if text is None else structs.replace(task, result=Raw(text))

    def find(self, reference: bytes) -> bytes | None:
        """Return the result that a reference refers to; None if its file is missing or changed. Raises Unavailable."""
        text, name = self.begin(reference), name_of(reference)
        return text if text is not None and name is not None and is_whole(name, text) else None

    def begin(self, reference: bytes, size: int = -1) -> bytes | None:
        """Return the first bytes of a result, by default all, not checked; None if its file is missing.

        Raises Unavailable.
        """
        name = name_of(reference)
        if name is None:
            return None
        try:
            return _read_plain(self._folder / name, size)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable(f"a result cannot be read now ({error.strerror})") from error

    def read(self, reference: bytes) -> bytes:
        """Return the result that an existing row refers to. Raises Unavailable if its file is missing or changed."""
        text = self.find(reference)
        if text is None:
            raise lost(reference)
        return text

    @property
    def has_left(self) -> bool:
        """Whether files of earlier processes are left to be checked."""
        return bool(self._left)

    def sweep(self, connection: apsw.Connection, limit: int) -> int:
        """Check `limit` files of earlier processes, and remove those that no row refers to; return how many."""
        some, self._left = self._left[:limit], self._left[limit:]
        strays = [name for name in some if _NAME.fullmatch(name) and not _is_referred_to(connection, name)]
        self._remove_all(strays)
        return len(strays)

    def _write(self, task_id: UUID, result: bytes) -> str:
        """Write a file; return its name."""
        name = f"{task_id}.{secrets.token_hex(6)}.{_digest(result)}"
        path = self._folder / name
        try:
            self._make_folder()
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with open(descriptor, "wb") as file:
                    file.write(result)
                    file.flush()
                    os.fsync(file.fileno())
                sync_folder(self._folder)
            except BaseException:
                self._remove(name)
                raise
        except OSError as error:
            raise Unavailable(
                f"the result cannot be written now ({error.strerror})", retry_after=timedelta(seconds=5)
            ) from error
        return name

    def _make_folder(self) -> None:
        if not self._folder.is_dir():
            self._folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(self._folder.parent)

    def _remove_all(self, names: Iterable[str]) -> None:
        for name in names:
            self._remove(name)

    def _remove(self, name: str) -> None:
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError as error:  # it does no harm: the next start tries again
            _log.warning("store.result_not_removed", name=name, reason=error.strerror)


class Stored:
    """A result on disk: its reference, and whether a committed row refers to it."""

    def __init__(self, reference: bytes) -> None:
        self.reference = reference
        self.is_stored = False


def lost(reference: bytes) -> Unavailable:
    """Log that a row refers to a missing or changed file; return the error for its reader."""
    name = name_of(reference) or _NO_NAME
    _log.error("store.result_lost", name=name)
    return Unavailable(
        f"the result of this task is missing or damaged (results/{name}): restore that folder with the database"
    )


def is_result_name(name: str) -> bool:
    """Return whether a file's name is that of a result."""
    return _NAME.fullmatch(name) is not None


def name_of(reference: bytes) -> str | None:
    """Return the file name in a reference; None if it is not a name of ours."""
    name = reference[len(_MARK) :].decode(errors="replace")
    return name if _NAME.fullmatch(name) else None


def _read_plain(path: Path, size: int) -> bytes | None:
    """Return the first bytes of a file, all of them for -1; None for a link, a folder or a pipe, which are not ours.

    Raises OSError.
    """
    try:  # O_NONBLOCK: opening a pipe would wait for its writer
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            return None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(size)
    finally:
        os.close(descriptor)


def _digest(result: bytes) -> str:
    return hashlib.sha256(result).hexdigest()[:_DIGEST_LENGTH]


def is_whole(name: str, text: bytes) -> bool:
    """Return whether a file has the written content; without a digest, only whether it is JSON."""
    found = _NAME.fullmatch(name)
    if found is not None and found["digest"] is not None:
        return _digest(text) == found["digest"]
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _is_referred_to(connection: apsw.Connection, name: str) -> bool:
    row = connection.execute(QUERIES["result_by_id"], (UUID(name[:36]).bytes,)).fetchone()
    return row is not None and row[0] == _MARK + name.encode()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
