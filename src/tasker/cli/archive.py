"""`tasker export` and `tasker import`: carry everything stored from one store to another."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Annotated, BinaryIO

from cyclopts import Parameter
from cyclopts.validators import Number

from tasker.archive import files as archive
from tasker.cli.exits import Exit
from tasker.cli.options import DataDir
from tasker.cli.streams import OutputError
from tasker.cli.terminal import PassingLine, note
from tasker.config.loading import load_settings
from tasker.config.settings import Settings
from tasker.errors import ConfigError

MaxLine = Annotated[int, Parameter(validator=Number(gte=1, lte=1 << 20))]


def export(file: str = "-", /, *, data_dir: DataDir = None) -> int:
    """Write everything stored as JSON Lines: schedules, every task with its attempts, events and keys, and a digest.

    Stop the service first: SQLite requires it, and later submissions to PostgreSQL would not be in the archive.

    Parameters
    ----------
    file
        Where to write; `-` is standard output. Only its owner may read a file; it gets its name once it is complete.
    """
    import uvloop

    settings = _settings(data_dir)
    if settings.database_url is None and not settings.database_file.exists():
        raise ConfigError(
            f"{settings.database_file.absolute()}: expected the tasks of a service, got no such file; name its folder"
            " by --data-dir or TASKER_DATA_DIR"
        )
    with _Progress("exported") as progress, _written(file) as output:
        uvloop.run(_export(settings, output, progress))
    note(f"exported {progress.done:,} tasks of {_describe(settings)}")
    return Exit.OK


def import_(file: str = "-", /, *, data_dir: DataDir = None, max_line: MaxLine = archive.MAX_LINE >> 20) -> int:
    """Store what `tasker export` wrote, and verify it. What is already in the store stays as it is.

    Every line is checked and stored in a trial run before anything is stored for good: an archive with a fault changes
    nothing. An import that was cut off may be repeated. The service's next start takes up the tasks that were open.

    Parameters
    ----------
    file
        What to read; `-` is standard input. The content of a pipe is kept in TMPDIR meanwhile.
    max_line
        MiB of the largest line: each task is one line, and is in memory as a whole.
    """
    settings = _settings(data_dir)
    with (
        nullcontext(sys.stdin.buffer) if _is_standard(file) else _opened(_path(file), "rb") as given,
        _reading(file),
        _checked(given, settings, max_line << 20) as checked,
    ):
        done = _import_lines(settings, checked)
    known = f", {done.known:,} existed already" if done.known else ""
    gone_on = f" ({done.gone_on:,} of them have changed since)" if done.gone_on else ""
    erased = f", {done.erased:,} have expired or were erased here and are not imported" if done.erased else ""
    others = f" and {done.records:,} other records" if done.records else ""
    what = f"{done.stored:,} tasks{others} into {_describe(settings)}{known}{gone_on}{erased}"
    note(f"imported {what}; counts and digest agree")
    return Exit.OK


async def _export(settings: Settings, output: BinaryIO, progress: _Progress) -> None:
    from tasker.wiring import app as wiring

    async with wiring.open_archive(settings) as store, aclosing(archive.write(store, progress)) as lines:
        async for line in lines:
            output.write(line)


@contextmanager
def _reading(file: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{'standard input' if _is_standard(file) else file}: {error.strerror or error}") from error


@contextmanager
def _checked(given: BinaryIO, settings: Settings, most: int) -> Iterator[Callable[[], Iterator[bytes]]]:
    """Check an archive to its end, line by line; yield a function that reads it again, as often as it is called.

    A pipe can be read only once: its content is kept in a file that nobody else can open.
    """
    with nullcontext(given) if given.seekable() else TemporaryFile() as kept, _Progress("checked") as progress:
        start = kept.tell()
        lines = archive.lines_of(given, most)
        archive.check(lines if kept is given else _copied(lines, kept), progress, rules=settings.url_rules)

        def again() -> Iterator[bytes]:
            kept.seek(start)
            return archive.lines_of(kept, most)

        yield again


def _copied(lines: Iterator[bytes], kept: IO[bytes]) -> Iterator[bytes]:
    for line in lines:
        kept.write(line)
        yield line


def _import_lines(settings: Settings, lines: Callable[[], Iterator[bytes]]) -> archive.Imported:
    import uvloop

    return uvloop.run(_import(settings, lines))


async def _import(settings: Settings, lines: Callable[[], Iterator[bytes]]) -> archive.Imported:
    from tasker.wiring import app as wiring

    async with wiring.open_archive(settings) as store:
        with _Progress("tried") as progress:
            await archive.rehearse(store, lines(), progress, rules=settings.url_rules)
        with _Progress("imported") as progress:
            return await archive.read(store, lines(), progress, rules=settings.url_rules)


def _settings(data_dir: str | None) -> Settings:
    """Return the settings; a folder named on the command line wins over a database that `.env` may name."""
    from tasker.logs.setup import configure_logs

    settings = load_settings(data_dir=data_dir)
    configure_logs(settings.log_level, settings.log_format)
    return settings if data_dir is None else settings.model_copy(update={"database_url": None})


def _describe(settings: Settings) -> str:
    from tasker.cli.banner import describe_store

    return describe_store(settings)


def _is_standard(file: str) -> bool:
    return file in ("-", "@-")  # cli/__init__.py turns a lone dash into the latter


def _path(file: str) -> Path:
    """Return the path of an archive. Raises ConfigError for a database, which must not be overwritten."""
    path = Path(file)
    if path.name.startswith(("tasker.db", "tasker.lock")):
        raise ConfigError(f"expected an archive's file, got {file}, the database itself: name its folder by --data-dir")
    return path


@contextmanager
def _written(file: str) -> Iterator[BinaryIO]:
    """Open a temporary file for an archive; rename it to its path once it is complete and on disk."""
    if _is_standard(file):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = _path(file)
    is_device = path.exists() and not path.is_file()  # /dev/stdout, or a pipe
    written = path if is_device else path.with_name(f"{path.name}.part")
    try:
        if not is_device:
            written.unlink(missing_ok=True)  # an export that was cut off may have left one that others can read
        with _opened(written, "wb" if is_device else "xb") as output:
            yield output
            output.flush()
            if not is_device:
                os.fsync(output.fileno())
                written.rename(path)
    except OSError as error:
        raise OutputError(f"{written} could not be written: {error.strerror or error}") from error
    finally:
        if not is_device:
            written.unlink(missing_ok=True)


def _opened(path: Path, mode: str) -> BinaryIO:
    try:
        return open(path, mode, opener=_for_its_owner)  # type: ignore[return-value]
    except OSError as error:
        raise ConfigError(f"expected a file that can be used, got {path} ({error.strerror})") from error


def _for_its_owner(path: str, flags: int) -> int:
    """Open a file; only the owner may ever read a new one."""
    return os.open(path, flags, 0o600)


class _Progress(PassingLine):
    """Counts the tasks that are done, and shows the count on a terminal until the end."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.done = 0
        self._what = what

    def __call__(self, done: int) -> None:
        self.done = done
        self.write(f"{self._what} {done:,} tasks")
