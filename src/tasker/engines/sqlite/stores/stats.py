"""The StatsStore of the embedded engine."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import apsw

from tasker.clock import Clock, from_micros, to_micros
from tasker.engines.shared.rollup import TaskChange, add_open, unpack, values_of, window_rows
from tasker.engines.shared.stats import partition_stats
from tasker.engines.shared.stores import stats as shared
from tasker.engines.shared.values import encode
from tasker.engines.sqlite.reader import Reader
from tasker.engines.sqlite.rows import PARKED
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.tables import SqliteDatabase, at_once, rows_of
from tasker.engines.sqlite.transaction import Transaction, Write
from tasker.model import PartitionStats
from tasker.model.stats import StatsFilter, StatsRow


@dataclass
class SqliteStats:
    """read, write, database: do work on a reading connection, or in a transaction."""

    _clock: Clock
    _read: Reader
    _write: Write
    _database: SqliteDatabase

    async def window(self, where: StatsFilter) -> list[StatsRow]:
        return await self._read.scan(_window, where)

    async def open_counts(
        self, owner: str | None = None, *, queues: Collection[str] | None = None
    ) -> list[PartitionStats]:
        return await self._read.scan(count_open, to_micros(self._clock.now()), owner, queues)

    async def fold(self, *, limit: int) -> int:
        return await self._write(lambda tx: _fold(tx, limit))

    async def prune(self, *, limit: int) -> int:
        return await self._database.write(lambda rows: shared.prune(self._database, rows, limit))


def _window(connection: apsw.Connection, where: StatsFilter) -> list[StatsRow]:
    with connection:  # one snapshot for all of it
        rows: list[Any] = connection.execute(QUERIES["sums"], values_of(where)).fetchall()
        changes = _changes(connection)
    return window_rows(where, [(step, name, figures) for step, name, *figures in rows], changes)


def count_open(
    connection: apsw.Connection, now: int, owner: str | None, queues: Collection[str] | None
) -> list[PartitionStats]:
    """Count the open tasks by queue and type."""
    with connection:  # one snapshot for all of it
        pending, waiting, running = _numbers(connection, owner, None if queues is None else frozenset(queues))
        by_time: list[Any] = connection.execute(QUERIES["due_by_time"], {"now": now, "owner": owner}).fetchall()
        for queue, type_, number in by_time:
            waiting[queue, type_] = waiting.get((queue, type_), 0) - number
        open_now = [
            (
                *name,
                due := number - waiting[name],
                waiting[name],
                _oldest(connection, now, owner, *name) if due else None,
            )
            for name, number in pending.items()
            if number
        ]
    return partition_stats(open_now, [(*name, number) for name, number in running.items() if number])


_Numbers = dict[tuple[str, str], int]
"""Numbers of tasks by queue and type."""


def _numbers(
    connection: apsw.Connection, owner: str | None, queues: frozenset[str] | None
) -> tuple[_Numbers, _Numbers, _Numbers]:
    """Return the numbers of pending, waiting and running tasks; only an owner's, and only in these queues, if given."""
    name, values = "open_tasks", dict[str, Any]()
    if owner is not None:
        name, values = "own_open_tasks", {"owner": owner}
    if owner is not None and queues is not None:
        name, values["queues"] = "own_open_tasks_in_queues", encode(sorted(queues)).decode()
    rows: list[Any] = connection.execute(QUERIES[name], values).fetchall()
    rows += [(*key, *numbers) for key, numbers in add_open(_changes(connection)).items()]
    sums: tuple[_Numbers, _Numbers, _Numbers] = ({}, {}, {})
    for whose, type_, queue, *numbers in rows:
        if owner in (None, whose) and (queues is None or queue in queues):
            for one, number in zip(sums, numbers, strict=True):
                one[queue, type_] = one.get((queue, type_), 0) + number
    return sums


def _oldest(connection: apsw.Connection, now: int, owner: str | None, queue: str, type_: str) -> Any:
    """Return when the longest-waiting due task of a partition became due: now, if the clock was set back since."""
    values = {"owner": owner, "queue": queue, "type": type_, "parked": PARKED}
    name = "oldest_due" if owner is None else "own_oldest_due"
    oldest: Any = connection.execute(QUERIES[name], values).get
    return None if oldest is None else from_micros(min(oldest, now))


def _changes(connection: apsw.Connection) -> list[TaskChange]:
    """Return the changes that are not in the sums yet."""
    rows: list[Any] = connection.execute(QUERIES["changes"]).fetchall()
    return [change for (changes,) in rows for change in unpack(changes)]


def _fold(tx: Transaction, limit: int) -> int:
    rows: list[Any] = tx.execute(QUERIES["next_changes"], (limit,)).fetchall()
    if rows:
        at_once(shared.fold(rows_of(tx), [change for _, changes in rows for change in unpack(changes)]))
        tx.execute(QUERIES["forget_changes"], (rows[-1][0],))
    return len(rows)
