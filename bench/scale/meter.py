"""A PostgreSQL server for the measures, and its usage between two moments: processor time, WAL, transactions."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import psutil

from bench.servers import LOAD_CORE, pin
from bench.stores import PostgreSQL, postgresql

_NANOSECONDS = 1e9


class Used(NamedTuple):
    """Usage so far, or between two moments: seconds of processor time, bytes and counts."""

    seconds: float
    client: float
    database: float
    wal: float
    commits: float
    syncs: float

    def since(self, before: Used) -> Used:
        return Used(*(mine - other for mine, other in zip(self, before, strict=True)))

    def each(self, count: float) -> Used:
        return Used(*(mine / count for mine in self))


@dataclass(frozen=True)
class Place:
    """A fresh database, and a connection that is not measured."""

    url: str
    pid: int
    control: Any

    async def used(self) -> Used:
        """Return the usage so far. Counts of open sessions lag by up to a second, or ten if idle."""
        row = await self.control.fetchrow(
            "SELECT pg_current_wal_lsn() - '0/0' AS wal, (SELECT wal_sync FROM pg_stat_wal) AS syncs,"
            " (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()) AS commits"
        )
        database = database_seconds(self.pid)
        return Used(
            time.monotonic(), time.process_time(), database, float(row["wal"]), float(row["commits"]),
            float(row["syncs"]),
        )  # fmt: skip


def database_seconds(postmaster: int) -> float:
    """Return the processor time of a cluster: the postmaster, its living children, and those that ended."""
    parent = psutil.Process(postmaster)
    times = parent.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in parent.children():
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{child.pid}/schedstat").read_text().split()[0]) / _NANOSECONDS
    return total


@contextlib.contextmanager
def cluster(max_connections: int = 200) -> Iterator[PostgreSQL]:
    """Run a PostgreSQL on one core, with this process on the other."""
    pin(LOAD_CORE)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with postgresql(f"max_connections = {max_connections}\n") as database:
        yield database


@contextlib.asynccontextmanager
async def place(database: PostgreSQL) -> AsyncIterator[Place]:
    """Yield a fresh database."""
    with database.fresh() as store:
        url = store.env["DATABASE_URL"]
        control = await asyncpg.connect(url)
        try:
            yield Place(url, store.pid, control)
        finally:
            await control.close()
