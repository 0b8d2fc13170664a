"""Backups of the embedded engine: made beside a running service, in one file, and put back into a new folder.

A backup is a tar file: `manifest.json` last, with the digests of the rest, so that a backup that was cut off is none.
The database is copied from one snapshot. A result's file is removed only after its row, so each file that a row of the
snapshot refers to existed at that moment: links to all files are made just before and just after the snapshot begins,
and if a file has gone in between all the same, another snapshot is taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, cast

import apsw
import msgspec
from msgspec import Struct

from tasker.engines.sqlite.result_files import is_result_name, is_whole, name_of, sync_folder
from tasker.engines.sqlite.sql import QUERIES, migrations
from tasker.engines.sqlite.storage import HolderLock, connect, prepare_folder
from tasker.errors import ArchiveError, ConfigError, Unavailable
from tasker.release import release

_FORMAT = 1
_MANIFEST = "manifest.json"
_DATABASE = "tasker.db"
_RESULTS = "results/"
_STEP = 2000
"""Pages that are copied at once."""
_TRIES = 20
"""Snapshots that are taken at most, until no result's file vanishes meanwhile."""
_PIECE = 1 << 20
_LINKS, _RESTORING = ".backup-", ".restoring"
"""Names of the folders that are used meanwhile; those of an earlier process are removed."""

Progress = Callable[[str, int, int], None]
"""Takes what is being done, and how much of how much is."""


class Member(Struct, frozen=True):
    """A file of a backup: its size in bytes, and its SHA-256 in hex."""

    size: int
    sha256: str


class Manifest(Struct, frozen=True):
    """What a backup has. schema: number of its last migration. tasks: how many, by status. files: by name."""

    format: int
    version: str
    created_at: datetime
    schema: int
    tasks: dict[str, int]
    files: dict[str, Member]


def back_up(database: Path, target: Path, *, now: datetime, progress: Progress) -> Manifest:
    """Write a backup of a database and its results, verify it, and only then give it its name.

    Needs space for two copies beside `target` meanwhile. Raises ConfigError, Unavailable (the disk is full...).
    """
    database = database.absolute()
    if not database.is_file():
        raise ConfigError(f"{database}: expected the tasks of a service, got no such file; see TASKER_DATA_DIR")
    with _no_space(target.parent), _folder_beside(target.parent) as copies, _folder_beside(database.parent) as links:
        copy, part = copies / _DATABASE, copies / "part"
        tasks, schema, names = _take_snapshot(database, copy, links, progress)
        _check_database(copy, progress)
        files = _write(part, copy, links, names, progress)
        manifest = Manifest(_FORMAT, release(), now, schema, tasks, files)
        _append_manifest(part, manifest)
        verify(part, progress)
        part.rename(target)
        sync_folder(target.parent)
    return manifest


def verify(file: Path, progress: Progress) -> Manifest:
    """Read a backup to its end, and compare each file with its digest. Raises ArchiveError."""
    found: dict[str, Member] = {}
    manifest: Manifest | None = None
    with _reading(file):
        for name, size, content in _members(file):
            progress("verified", sum(one.size for one in found.values()), file.stat().st_size)
            if name == _MANIFEST:
                manifest = _read_manifest(content.read(size))
            else:
                found[name] = Member(size, _digest(content))
    if manifest is None:
        raise ArchiveError(f"{file}: it has no end: the backup was cut off, or this is no backup of Tasker")
    if manifest.schema > migrations()[-1][0]:
        raise ArchiveError(f"{file}: it is of a newer Tasker ({manifest.version}): upgrade this one")
    differing = sorted(name for name in found.keys() | manifest.files if found.get(name) != manifest.files.get(name))
    if differing:
        raise ArchiveError(f"{file}: it is damaged: {', '.join(differing[:3])} is not as it was written")
    return manifest


def restore(file: Path, folder: Path, progress: Progress) -> Manifest:
    """Verify a backup, and put it into a folder that has no database. Raises ArchiveError, ConfigError, StoreInUse."""
    manifest = verify(file, progress)
    prepare_folder(folder)
    lock = HolderLock(folder / "tasker.lock")
    lock.acquire()
    try:
        with _no_space(folder):
            _refuse_to_overwrite(folder)
            made = folder / _RESTORING
            made.mkdir(mode=0o700)
            (made / "results").mkdir(mode=0o700)
            for name, _, content in _members(file):
                if name != _MANIFEST:
                    _extract(made / name, content)
            _check_database(made / _DATABASE, progress)
            sync_folder(made / "results")
            (made / "results").rename(folder / "results")
            (made / _DATABASE).rename(folder / _DATABASE)  # last: without it there is no store yet
            sync_folder(folder)
            made.rmdir()
    finally:
        lock.release()
    return manifest


def _take_snapshot(
    database: Path, copy: Path, links: Path, progress: Progress
) -> tuple[dict[str, int], int, list[str]]:
    """Copy the database as it is at one moment, with links to the results of that moment.

    Return the counts of its tasks, its schema, and the names of those results.
    """
    results = database.with_name("results")
    with contextlib.closing(connect(database, read_only=True)) as source:
        source.set_busy_timeout(10_000)
        for _ in range(_TRIES):
            _link_all(results, links)
            with source:
                schema: int = source.pragma("user_version")  # the snapshot begins with this read
                _link_all(results, links)
                names = _names_in(source)
                if all((links / name).exists() for name in names):
                    tasks = dict(source.execute(QUERIES["tasks_by_status"]))
                    _copy(source, copy, progress)
                    return tasks, schema, names
        lost = next(name for name in names if not (links / name).exists())
    raise Unavailable(f"results/{lost} is missing: its task has a result that is lost, or results vanish all the time")


def find_lost_result(connection: apsw.Connection, results: Path) -> str | None:
    """Return the name of a result whose file is missing although its row is there; None if there is none."""
    for name in _names_in(connection):
        if not (results / name).exists() and name in _names_in(connection):  # else its task was erased just now
            return name
    return None


def _names_in(source: apsw.Connection) -> list[str]:
    found = (name_of(bytes(reference)) for (reference,) in source.execute(QUERIES["result_references"]))
    return sorted(name for name in found if name is not None)


def _link_all(results: Path, links: Path) -> None:
    """Link, or else copy, each file of a folder that is not linked yet; what has gone meanwhile is left out."""
    if not results.is_dir():
        return
    for name in set(os.listdir(results)) - set(os.listdir(links)):
        if is_result_name(name):
            with contextlib.suppress(FileNotFoundError):
                _link(results / name, links / name)


def _link(source: Path, link: Path) -> None:
    try:
        os.link(source, link, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:  # this file system has no links
        shutil.copyfile(source, link, follow_symlinks=False)


def _copy(source: apsw.Connection, copy: Path, progress: Progress) -> None:
    """Copy the snapshot that `source` reads. It is held meanwhile, so that writers do not make the copy start anew."""
    target = apsw.Connection(str(copy))
    with contextlib.closing(target), target.backup("main", source, "main") as backup:
        while not backup.done:
            backup.step(_STEP)
            progress("copied", backup.page_count - backup.remaining, backup.page_count)


def _check_database(copy: Path, progress: Progress) -> None:
    """Have SQLite check a database that nobody else has open. Raises ArchiveError."""
    progress("checking", 0, 0)
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    connection = apsw.Connection(f"{copy.absolute().as_uri()}?immutable=1", flags=flags)
    with contextlib.closing(connection):
        found = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
    if found != ["ok"]:
        raise ArchiveError(f"the database is damaged: {'; '.join(map(str, found))}")


def _write(part: Path, copy: Path, links: Path, names: list[str], progress: Progress) -> dict[str, Member]:
    files: dict[str, Member] = {}
    with open(part, "xb", opener=_for_its_owner) as output, tarfile.open(fileobj=output, mode="w") as archive:
        files[_DATABASE] = _add(archive, _DATABASE, copy)
        for number, name in enumerate(names):
            progress("results", number, len(names))
            if not is_whole(name, (links / name).read_bytes()):
                raise ArchiveError(f"results/{name} is damaged: its task's result is lost; DELETE the task first")
            files[f"{_RESULTS}{name}"] = _add(archive, f"{_RESULTS}{name}", links / name)
    return files


def _add(archive: tarfile.TarFile, name: str, path: Path) -> Member:
    with path.open("rb") as content:
        digest = _digest(content)
        content.seek(0)
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = os.fstat(content.fileno()).st_size, 0o600, int(path.stat().st_mtime)
        archive.addfile(info, content)
    return Member(info.size, digest)


def _append_manifest(part: Path, manifest: Manifest) -> None:
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    with part.open("r+b") as output:
        with tarfile.open(fileobj=output, mode="a") as archive:
            info = tarfile.TarInfo(_MANIFEST)
            info.size, info.mode, info.mtime = len(text), 0o600, int(manifest.created_at.timestamp())
            archive.addfile(info, io.BytesIO(text))
        output.flush()
        os.fsync(output.fileno())


def _members(file: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Yield name, size and content of the files in a backup. Raises ArchiveError for anything else in it."""
    with tarfile.open(file, "r:") as archive:
        for info in archive:
            if not info.isreg() or not _is_known(info.name):
                raise ArchiveError(f"{file}: expected the files of a backup, got {info.name!r:.200}")
            yield info.name, info.size, cast(IO[bytes], archive.extractfile(info))


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ConfigError(f"{file}: expected a backup, got no such file") from error
    except (OSError, tarfile.TarError, EOFError) as error:
        raise ArchiveError(f"{file}: it cannot be read as a backup: {error}") from error


def _is_known(name: str) -> bool:
    return name in (_MANIFEST, _DATABASE) or (name.startswith(_RESULTS) and is_result_name(name.removeprefix(_RESULTS)))


def _read_manifest(text: bytes) -> Manifest:
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except msgspec.DecodeError as error:
        raise ArchiveError(f"{_MANIFEST}: {error}") from error
    if manifest.format != _FORMAT:
        raise ArchiveError(f"{_MANIFEST}: expected format {_FORMAT}, got {manifest.format}: upgrade Tasker")
    return manifest


def _extract(path: Path, content: IO[bytes]) -> None:
    with open(path, "xb", opener=_for_its_owner) as output:
        shutil.copyfileobj(content, output, _PIECE)
        output.flush()
        os.fsync(output.fileno())


def _digest(content: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := content.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()


def _refuse_to_overwrite(folder: Path) -> None:
    """Remove what a restore that was cut off has left. Raises ConfigError if there is anything else."""
    unfinished = (folder / _RESTORING).exists() and not (folder / _DATABASE).exists()
    if unfinished:
        shutil.rmtree(folder / "results", ignore_errors=True)
        shutil.rmtree(folder / _RESTORING)
    for name in (_DATABASE, f"{_DATABASE}-wal", f"{_DATABASE}-journal", "results", _RESTORING):
        if (folder / name).exists():
            raise ConfigError(f"{folder / name} exists, and nothing is overwritten: name another folder by --data-dir")


@contextlib.contextmanager
def _folder_beside(parent: Path) -> Iterator[Path]:
    """Yield a new folder in `parent`, and remove it. What a backup that was killed has left there is removed first."""
    for left in parent.glob(f"{_LINKS}*"):
        if not _is_alive(left.name.removeprefix(_LINKS).partition("-")[0]):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(mkdtemp(prefix=f"{_LINKS}{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, OverflowError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def _no_space(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, apsw.Error) as error:
        raise Unavailable(f"{folder}: {getattr(error, 'strerror', None) or error}") from error


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
