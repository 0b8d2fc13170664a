"""Large results: each in a file of its own beside the database, which the task's row refers to.

A file's name ends with a digest of what it holds: what a hand or a disk has changed is never given out as a result. The
name is checked wherever a reference is followed, for a database too can be changed by hand.

A file and its name are on disk before the row that refers to it is committed, and it is removed once the row's erasure
is durable: no row ever refers to a file that is not there. What a crash leaves in between is a file that no row refers
to; those that an earlier process has left are removed bit by bit after the start.
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
"""Bytes of a result that still fits its row."""
_MARK = b"\0"
"""The first byte of a reference; no JSON text begins with it."""
_NAME = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[0-9a-f]{12}(?:\.(?P<digest>[0-9a-f]{16}))?")
"""A task, what tells the file from others of it, and the digest; files of earlier versions have none."""
_DIGEST_LENGTH = 16
_NO_NAME = "(no name of a result's file)"
_THREADS = 2

_log = structlog.get_logger(__name__)


def is_reference(result: Raw | bytes | None) -> bool:
    """Tell whether what a row has as result refers to a file."""
    return result is not None and memoryview(result)[:1] == _MARK


class Results:
    """The files of one store, in `folder`. over: the largest result, in bytes, that has none."""

    def __init__(self, folder: Path, over: int) -> None:
        self.over = over
        self._folder = folder
        self._unsure: dict[tuple[Lease, int], bytes] = {}
        self._left = os.listdir(folder) if folder.exists() else []  # no row of this process refers to these yet
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="tasker-results")

    def close(self) -> None:
        """Finish what was begun."""
        self._threads.shutdown()

    @contextlib.asynccontextmanager
    async def kept(self, lease: Lease, result: bytes) -> AsyncIterator[Stored]:
        """Write the result of an attempt, and remove it again unless `is_stored` is set.

        After a commit that failed it stays for the next try: a power cut may show it to have been stored after all.
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
        """Write a result, durably; return the reference to it. Raises Unavailable."""
        name: str = await asyncio.get_running_loop().run_in_executor(self._threads, self._write, task_id, result)
        return _MARK + name.encode()

    async def remove(self, references: Iterable[bytes]) -> None:
        """Remove files to which no row refers any more."""
        for reference in references:
            name = _name_of(reference)
            if name is not None:
                await asyncio.get_running_loop().run_in_executor(self._threads, self._remove, name)

    async def load(self, task: Task) -> Task | None:
        """Return a task with its result in place of the reference; None if it is erased while we look.

        Raises Unavailable.
        """
        text = await asyncio.get_running_loop().run_in_executor(self._threads, self.find, bytes(task.result or b""))
        return None if text is None else structs.replace(task, result=Raw(text))

    def find(self, reference: bytes) -> bytes | None:
        """Return the result behind a reference, or None if its file is not there, or not as it was written.

        Raises Unavailable.
        """
        name = _name_of(reference)
        if name is None:
            return None
        try:
            text = _read_plain(self._folder / name)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable(f"a result cannot be read now ({error.strerror})") from error
        return text if text is not None and _is_whole(name, text) else None

    def read(self, reference: bytes) -> bytes:
        """Return the result behind the reference of a row that is there. Raises Unavailable."""
        text = self.find(reference)
        if text is None:
            raise lost(reference)
        return text

    @property
    def has_left(self) -> bool:
        """Whether there are files of earlier processes that were not looked at yet."""
        return bool(self._left)

    def sweep(self, connection: apsw.Connection, limit: int) -> int:
        """Remove files of earlier processes to which no row refers, of `limit` that are looked at; return how many."""
        some, self._left = self._left[:limit], self._left[limit:]
        strays = [name for name in some if _NAME.fullmatch(name) and not _is_referred_to(connection, name)]
        for name in strays:
            self._remove(name)
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
                _sync(self._folder)
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
            _sync(self._folder.parent)

    def _remove(self, name: str) -> None:
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError as error:  # it is in nobody's way: the next start tries again
            _log.warning("store.result_not_removed", name=name, reason=error.strerror)


class Stored:
    """A result that is on disk: its reference, and whether a row refers to it for good."""

    def __init__(self, reference: bytes) -> None:
        self.reference = reference
        self.is_stored = False


def lost(reference: bytes) -> Unavailable:
    """Return what to say where a row refers to a file that is not there, or not as it was written."""
    name = _name_of(reference) or _NO_NAME
    _log.error("store.result_lost", name=name)
    return Unavailable(
        f"the result of this task is not there, or damaged (results/{name}): restore that folder with the database"
    )


def _name_of(reference: bytes) -> str | None:
    """Return the name of the file that a reference is to; None if it has no name that we give."""
    name = reference[len(_MARK) :].decode(errors="replace")
    return name if _NAME.fullmatch(name) else None


def _read_plain(path: Path) -> bytes | None:
    """Return what a file holds; None for a link, a folder or a pipe, which is none of ours. Raises OSError."""
    try:  # a pipe would keep us waiting
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            return None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def _digest(result: bytes) -> str:
    return hashlib.sha256(result).hexdigest()[:_DIGEST_LENGTH]


def _is_whole(name: str, text: bytes) -> bool:
    """Tell whether a file holds what was written; of one without a digest it can only be said that it is JSON."""
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


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
