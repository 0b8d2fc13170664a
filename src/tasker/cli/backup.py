"""`tasker backup` and `tasker restore`: keep what an embedded store holds in a file, and put it back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tasker.cli.exits import Exit
from tasker.cli.options import DataDir, Json
from tasker.cli.terminal import PassingLine, note
from tasker.config.loading import load_settings
from tasker.errors import ConfigError

if TYPE_CHECKING:
    from tasker.wiring.backups import Manifest

Force = Annotated[bool, Parameter(negative="", show_default=False)]


def backup(file: Path, /, *, force: Force = False, json: Json = False, data_dir: DataDir = None) -> int:
    """Write a backup of the tasks into one file, while the service runs, and verify it.

    It holds the database as it was at one moment, with every task that was accepted before the start, and the large
    results of these tasks. SQLite checks the copy, each file is read again and compared, and only then does the file
    get its name. Like the data folder it is not encrypted. A store on PostgreSQL has tools of its own: pg_dump.

    Parameters
    ----------
    file
        Where to write; only its owner may read it. Twice the size of the data is needed there meanwhile.
    force
        Replace an existing file, once the new backup is verified.
    """
    from tasker.wiring import backups

    if file.is_dir() or (file.exists() and not force):
        raise ConfigError(f"{file} exists: name another file, or replace it by --force")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"{file}: there is no folder {file.absolute().parent}")
    settings = load_settings(data_dir=data_dir)
    if data_dir is not None:
        settings = settings.model_copy(update={"database_url": None})
    with _Progress() as progress:
        manifest = backups.back_up(settings, file.absolute(), now=datetime.now(UTC), progress=progress)
    return _report(manifest, file, "backed up", json=json)


def restore(file: Path, /, *, json: Json = False, data_dir: DataDir = None) -> int:
    """Put a backup of `tasker backup` into a data folder that has no tasks yet, after verifying it.

    Start the service on it then: tasks that were pending or running at the time of the backup run, those that have
    ended since among them; keys, schedules and webhooks are as they were.

    Parameters
    ----------
    file
        The backup.
    """
    from tasker.wiring import backups

    settings = load_settings(data_dir=data_dir)
    if settings.database_url is not None and data_dir is None:
        raise ConfigError("TASKER_DATABASE_URL: a service here would not use the folder: name it by --data-dir")
    folder = settings.data_dir
    with _Progress() as progress:
        manifest = backups.restore(file, folder, progress)
    return _report(manifest, folder, "restored", json=json)


def _report(manifest: Manifest, place: Path, what: str, *, json: bool) -> int:
    from tasker.cli.service import to_json
    from tasker.cli.terminal import show

    if json:
        show(to_json(manifest))
        return Exit.OK
    count = sum(manifest.tasks.values())
    results = len(manifest.files) - 1
    size = sum(member.size for member in manifest.files.values())
    parts = ", ".join(f"{number:,} {status}" for status, number in sorted(manifest.tasks.items()))
    note(
        f"{what} {count:,} tasks{f' ({parts})' if parts else ''} and {results:,} large results, {_size(size)}, of"
        f" {manifest.created_at:%Y-%m-%d %H:%M:%S} UTC: {place}; verified"
    )
    return Exit.OK


def _size(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MiB"


class _Progress(PassingLine):
    """Shows on a terminal what is being done, until the end."""

    def __init__(self) -> None:
        super().__init__()
        self._last = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        text = f"{what} {100 * done // total} %" if total else what
        if text != self._last:
            self._last = text
            self.write(text)
