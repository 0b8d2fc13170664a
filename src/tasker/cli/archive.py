"""`tasker export` and `tasker import`: carry everything stored from one store to another."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

from cyclopts import Parameter

from tasker.cli.exits import Exit
from tasker.cli.terminal import note
from tasker.config import Settings, load_settings
from tasker.errors import ConfigError

DataDir = Annotated[str | None, Parameter(show_default=False)]


def export(file: str = "-", /, *, data_dir: DataDir = None) -> int:
    """Write everything stored as JSON Lines: every task with its attempts, events and keys, and a digest at the end.

    Stop the service first, so that nothing changes meanwhile; with SQLite it must be stopped.

    Parameters
    ----------
    file
        Where to; `-` is standard output.
    data_dir
        Folder that holds the tasks, where TASKER_DATABASE_URL is not set.
    """
    import uvloop

    settings = _settings(data_dir)
    partial = Path(f"{file}.part")
    with _progress("exported") as progress:
        if _is_standard(file):
            return uvloop.run(_export(settings, sys.stdout.buffer, progress))
        with _opened(partial, "wb") as output:
            code = uvloop.run(_export(settings, output, progress))
        partial.rename(file)  # half an archive never has the whole one's name
    return code


def import_(file: str = "-", /, *, data_dir: DataDir = None) -> int:
    """Store what `tasker export` wrote, and verify that it is there. What is there already is left as it is.

    May be done again after it was cut off. A file is checked to its end before anything is stored. Tasks that were
    open are taken up by the service's next start.

    Parameters
    ----------
    file
        Where from; `-` is standard input.
    data_dir
        Folder that holds the tasks, where TASKER_DATABASE_URL is not set.
    """
    import uvloop

    from tasker import archive

    settings = _settings(data_dir)
    with _progress("imported") as progress:
        if _is_standard(file):
            return uvloop.run(_import(settings, sys.stdin.buffer, progress))
        with _opened(Path(file), "rb") as lines:
            archive.check(lines)
            lines.seek(0)
            return uvloop.run(_import(settings, lines, progress))


async def _export(settings: Settings, output: BinaryIO, progress: Callable[[int], None]) -> int:
    from tasker import archive, wiring

    tasks = 0

    def count(done: int) -> None:
        nonlocal tasks
        tasks = done
        progress(done)

    async with wiring.open_archive(settings) as store:
        lines: AsyncIterator[bytes] = archive.write(store, count)
        async for line in lines:
            output.write(line)
    output.flush()
    note(f"exported {tasks:,} tasks")
    return Exit.OK


async def _import(settings: Settings, lines: BinaryIO, progress: Callable[[int], None]) -> int:
    from tasker import archive, wiring

    async with wiring.open_archive(settings) as store:
        done = await archive.read(store, lines, progress)
    known = f", {done.known:,} were there already" if done.known else ""
    gone_on = f" ({done.gone_on:,} of them have gone on since)" if done.gone_on else ""
    note(f"imported {done.stored:,} tasks{known}{gone_on}; counts and digest agree")
    return Exit.OK


def _settings(data_dir: str | None) -> Settings:
    from tasker.logs import configure_logs

    settings = load_settings(data_dir=data_dir)
    configure_logs(settings.log_level, settings.log_format)
    return settings


def _is_standard(file: str) -> bool:
    return file in ("-", "@-")  # a lone dash comes as the latter (cli/__init__.py)


def _opened(path: Path, mode: str) -> BinaryIO:
    try:
        return path.open(mode)  # type: ignore[return-value]
    except OSError as error:
        raise ConfigError(f"expected a file that can be used, got {path} ({error.strerror})") from error


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how far it has come."""
    is_shown = sys.stderr.isatty()

    def show(done: int) -> None:
        if is_shown:
            print(f"\r{what} {done:,} tasks", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        if is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
