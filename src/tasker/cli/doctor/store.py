"""Checks of the store: it opens, its schema, its size and space; PostgreSQL also its clock and the way to it."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from datetime import timedelta
from pathlib import Path

from tasker.cli.doctor.findings import Finding, ok, problem, warning
from tasker.config.settings import Settings
from tasker.engines.protocol.inspection import PostgresState
from tasker.errors import ConfigError

_LITTLE = 1 << 30
"""Bytes of free space that are worth a warning."""
_TOO_LITTLE = 8 << 20
"""Bytes of free space below which the service takes no more tasks."""
_SKEW = timedelta(seconds=1)
_FAR = timedelta(milliseconds=20)


def check_store(settings: Settings) -> Iterator[Finding]:
    """Check the database that the settings name."""
    if settings.database_url is not None:
        yield from _check_postgres(settings.database_url.get_secret_value(), "TASKER_DATABASE_URL")
        if settings.listen_url is not None:
            yield from _check_listening(settings.listen_url.get_secret_value())
        return
    yield from _check_space(existing(settings.data_dir))
    yield from _check_sqlite(settings)


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def _check_space(folder: Path) -> Iterator[Finding]:
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    detail = f"{free / (1 << 30):,.1f} GiB are free at {folder}"
    if free < _TOO_LITTLE:
        yield problem("space", detail, "free some: the service takes no more tasks")
    elif free < _LITTLE:
        yield warning("space", detail, "free some, or shorten TASKER_RETENTION")
    else:
        yield ok("space", detail)
    if not os.access(folder, os.W_OK | os.X_OK):
        yield problem("store", f"{folder} is not writable for this user", "name another folder by TASKER_DATA_DIR")


def _check_sqlite(settings: Settings) -> Iterator[Finding]:
    from tasker.wiring.inspection import inspect_sqlite

    file = settings.database_file.absolute()
    try:
        state = inspect_sqlite(settings)
    except ConfigError as error:
        yield problem("store", str(error), "restore a backup (`tasker restore`), or name another TASKER_DATA_DIR")
        return
    if state is None:
        yield ok("store", f"{file} does not exist yet; the first start makes it")
        return
    detail = f"{file}, {state.size / (1 << 20):,.1f} MiB, schema {state.schema}"
    if state.schema > state.known:
        yield problem("store", f"{detail} is of a newer Tasker (known: {state.known})", "upgrade Tasker")
    elif state.schema < state.known:
        yield warning("store", f"{detail} is migrated to {state.known} by the next start", "make a backup before it")
    else:
        yield ok("store", f"{detail}{'' if state.faults is not None else ', too large to be checked as a whole'}")
    for fault in state.faults or ():
        yield problem("store", f"the file is damaged: {fault}", "restore a backup (`tasker restore`)")
    if state.lost is not None:
        yield problem("store", f"results/{state.lost} is missing", "restore the folder results with the database")


def _check_postgres(url: str, variable: str) -> Iterator[Finding]:
    state = yield from _look(url, variable)
    if state is None:
        return
    detail = f"PostgreSQL {state.version}, answers in {state.round_trip / timedelta(milliseconds=1):.1f} ms"
    if state.is_read_only:
        yield problem("store", f"{detail}, takes no writes", f"lead {variable} to the primary server")
    elif state.round_trip > _FAR:
        yield warning("store", f"{detail}, far away", "each transaction waits for it: run Tasker near its database")
    else:
        yield ok("store", detail)
    if state.is_new:
        yield ok("migrations", "none yet; the first start, or `tasker migrate`, applies them")
    elif state.missing:
        yield warning("migrations", f"{len(state.missing)} are missing", "run `tasker migrate`, or start the service")
    else:
        yield ok("migrations", "up to date")
    yield from _check_pooler(state)
    yield from check_skew(state.skew, "the database server")


def _look(url: str, variable: str) -> Generator[Finding, None, PostgresState | None]:
    """Yield why the database cannot be looked at; return what was found, or None."""
    import asyncio

    from tasker.wiring.inspection import inspect_postgres

    try:
        return asyncio.run(inspect_postgres(url))
    except ConfigError as error:
        yield problem("store", str(error), f"check {variable}, and whether the server runs and lets this machine in")
        return None


def _check_pooler(state: PostgresState) -> Iterator[Finding]:
    if state.is_direct:
        yield ok("pooler", "none: connections lead to the server itself")
    elif state.keeps_statements:
        yield ok("pooler", "connections lead through a pooler that keeps sessions")
    else:
        yield warning(
            "pooler", "connections lead through a pooler in transaction mode", "set TASKER_LISTEN_URL (docs/pooler.md)"
        )


def _check_listening(url: str) -> Iterator[Finding]:
    state = yield from _look(url, "TASKER_LISTEN_URL")
    if state is None:
        return
    if state.is_direct:
        yield ok("listening", "TASKER_LISTEN_URL leads to the server itself")
    else:
        yield warning("listening", "TASKER_LISTEN_URL leads to a pooler", "lead it to the database server itself")


def check_skew(skew: timedelta, whose: str) -> Iterator[Finding]:
    """Compare this machine's clock with another one. skew: how far that is ahead."""
    seconds = skew.total_seconds()
    if abs(skew) > _SKEW:
        yield warning(
            "clock", f"{whose} is {abs(seconds):.1f} s {'ahead' if seconds > 0 else 'behind'}", "set both by NTP"
        )
    else:
        yield ok("clock", f"{whose} agrees within {abs(seconds):.2f} s")
