"""The QueueStore of the embedded engine."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import apsw

from tasker.clock import Clock, to_micros
from tasker.engines.shared.refusals import too_many
from tasker.engines.sqlite.limits import find_settings, read_states, running_with_key, store_settings, tokens_now
from tasker.engines.sqlite.partitions import Partitions
from tasker.engines.sqlite.reader import Reader
from tasker.engines.sqlite.rows import PARKED
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.transaction import Transaction, Write
from tasker.model.queues import MOST_BEFORE, Place, QueueChange, QueueSettings, QueueState, tokens_after

_UNPARK = 1000
"""Limit of the tasks that a change of settings unparks; later sweeps unpark the others."""


@dataclass
class SqliteQueues:
    """read: runs a query on the reading connection; write: does work in a transaction of the writing one."""

    _read: Reader
    _write: Write
    _partitions: Partitions
    _clock: Clock

    async def find_all(self, names: Collection[str] | None = None) -> list[QueueState]:
        if self._partitions.has_no_limits:  # the usual case: so a read of a task does not wait for the reader's thread
            return []
        return await self._read(read_states, to_micros(self._clock.now()), names)

    async def find_names(self, *, after: str | None = None, limit: int) -> list[str]:
        return await self._read(_find_names, after or "", limit)

    async def find_open(self, owner: str) -> list[str]:
        return await self._read(find_open, owner)

    async def find_place(self, task_id: UUID, owner: str | None = None) -> Place | None:
        return await self._read(_find_place, task_id, to_micros(self._clock.now()), owner)

    async def find_run_time(self, task_id: UUID) -> timedelta | None:
        return await self._read(_find_run_time, task_id)

    async def change(self, name: str, change: QueueChange, *, most: int | None = None) -> QueueSettings:
        return await self._write(functools.partial(_change, name=name, change=change, most=most))


def _change(tx: Transaction, *, name: str, change: QueueChange, most: int | None) -> QueueSettings:
    old, tokens, since = find_settings(tx.connection, name)
    new = change.apply(old)
    is_one_more = old.is_plain and not new.is_plain
    if most is not None and is_one_more and tx.execute(QUERIES["count_queues"]).get >= most:
        raise too_many("queues with settings (TASKER_MAX_QUEUES)", most)
    tokens = tokens_after(old, new, tokens_now(old.rate, tokens, since, tx.now))
    store_settings(tx.connection, new, tokens, tx.now)
    tx.partitions.settings_changed()
    if not new.counts_as(old):
        tx.partitions.unpark_many(tx.connection, tx.now, _UNPARK)
    return new


def _find_names(connection: apsw.Connection, after: str, limit: int) -> list[str]:
    names: set[str] = {row[0] for row in connection.execute(QUERIES["other_queues"], {"after": after})}
    pending: Any = after
    for _ in range(limit):
        pending = connection.execute(QUERIES["next_queue"], (pending,)).get
        if pending is None:
            break
        names.add(pending)
    return sorted(names)[:limit]


def find_open(connection: apsw.Connection, owner: str) -> list[str]:
    """Return the queues in which an owner has open tasks, with one seek for each."""
    names: set[str] = {row[0] for row in connection.execute(QUERIES["running_queues_of"], (owner,))}
    queue: Any = ""
    while (queue := _next_queue(connection, owner, queue)) is not None:
        if owner or queue in names or connection.execute(QUERIES["has_pending_of_nobody"], (queue,)).get:
            names.add(queue)
    return list(names)


def _next_queue(connection: apsw.Connection, owner: str, after: Any) -> Any:
    """Return the next queue with pending tasks of an owner; for the owner "", of any owner."""
    if owner:
        return connection.execute(QUERIES["next_queue_of"], (owner, after)).get
    return connection.execute(QUERIES["next_queue"], (after,)).get


def _find_place(connection: apsw.Connection, task_id: UUID, now: int, among: str | None) -> Place | None:
    row = connection.execute(QUERIES["place_of"], (task_id.bytes,)).fetchone()
    if row is None or row[3] & ~PARKED > now:
        return None
    seq, queue, priority, due_at, weight, owner, key = row
    due_at &= ~PARKED
    if among is None:
        before = _count_before(connection, str(queue), priority, due_at, seq, now)
    else:
        values = {"owner": among, "queue": queue, "now": now, "priority": priority, "due_at": due_at, "seq": seq}
        before = _count(connection, "own_due_before", values | {"limit": MOST_BEFORE})
    settings = find_settings(connection, str(queue))[0]
    running = 0 if key is None else running_with_key(connection, settings.slot(str(owner), str(key)))
    return Place(before=before, weight=weight, key_running=running)


def _count_before(connection: apsw.Connection, queue: str, priority: int, due_at: int, seq: int, now: int) -> int:
    """Count the due tasks of a queue before a place in it, up to MOST_BEFORE."""
    before = 0
    for type_ in _types_of(connection, queue):
        level = connection.execute(QUERIES["next_level"], (queue, type_, 1 << 31)).get
        while level is not None and level > priority and before < MOST_BEFORE:
            before += _count(connection, "due_before_level", (queue, type_, level, now, MOST_BEFORE - before))
            level = connection.execute(QUERIES["next_level"], (queue, type_, level)).get
        own = (queue, type_, priority, due_at, seq, MOST_BEFORE - before)
        before += _count(connection, "due_before", own)
    return before


def _count(connection: apsw.Connection, query: str, values: Any) -> int:
    return int(connection.execute(QUERIES[query], values).get)


def _types_of(connection: apsw.Connection, queue: str) -> list[str]:
    """Return the types with pending tasks in a queue."""
    types: list[str] = []
    partition: Any = (queue, "")
    while (row := connection.execute(QUERIES["next_partition"], partition).fetchone()) is not None and row[0] == queue:
        types.append(row[1])
        partition = row
    return types


def _find_run_time(connection: apsw.Connection, task_id: UUID) -> timedelta | None:
    average = connection.execute(QUERIES["run_time"], {"task_id": task_id.bytes}).get
    return None if average is None else timedelta(microseconds=int(average))
