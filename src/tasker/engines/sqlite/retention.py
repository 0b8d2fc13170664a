"""Erase tasks, for their clients or when they expire, and keep tombstones of expired ones."""

from __future__ import annotations

from time import perf_counter
from typing import Any
from uuid import UUID

import apsw

from tasker.clock import MICROSECOND, Clock, from_micros, to_micros
from tasker.engines.sqlite.reader import Reader
from tasker.engines.sqlite.result_files import is_reference
from tasker.engines.sqlite.rows import Row
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.transaction import Transaction
from tasker.errors import Expired
from tasker.model import Tombstone
from tasker.model.keeping import FOREVER, KEEP_TOMBSTONES_FOR

_AT_LEAST = KEEP_TOMBSTONES_FOR // MICROSECOND
_STEP = 0.002
"""Time limit in seconds of one step on the event loop: submissions wait meanwhile."""
_STEP_SIZE = 1 << 20
"""Bytes of tasks after which a step ends: it overwrites all of them on disk."""
_SPARE_PAGES, _SPARE_SHARE = 256, 10
"""Free pages kept in the file for new tasks: 256, or a tenth of the file, whichever is larger."""


References = list[bytes]
"""References to result files, to be removed once the transaction is durable."""


def erase(tx: Transaction, seq: int, task_id: bytes) -> References:
    """Erase a task and all its rows in other tables, except idempotency keys. No other code erases tasks."""
    for query in ("delete_tags", "delete_attempts", "delete_events"):
        tx.execute(QUERIES[query], (seq,))
    for query in ("delete_task_secrets", "delete_task_deliveries", "delete_task_webhooks"):
        tx.execute(QUERIES[query], (task_id,))
    result: Any = tx.execute(QUERIES["delete_task"], (seq,)).get
    return [result] if is_reference(result) else []


def delete(tx: Transaction, seq: int, task_id: UUID) -> References:
    """Erase a task for its client, with its keys."""
    values = {"seq": seq, "now": tx.now, "forever": FOREVER // MICROSECOND, "at_least": _AT_LEAST}
    tx.execute(QUERIES["bury_deleted"], values)
    tx.execute(QUERIES["delete_keys"], (task_id.bytes,))
    return erase(tx, seq, task_id.bytes)


def prune(tx: Transaction, now: int, limit: int) -> tuple[int, References]:
    """Erase some rows that have expired at `now` (microseconds); return how much was done."""
    references: References = []
    until = perf_counter() + _STEP
    tx.execute(QUERIES["prune_keys"], (now, limit))
    done = tx.connection.changes()
    tx.execute(QUERIES["prune_tombstones"], (now, limit))
    done += tx.connection.changes()
    done += _prune_tasks(tx, now, limit, until, references)
    return done or _give_space_back(tx.connection, until), references


def _prune_tasks(tx: Transaction, now: int, limit: int, until: float, references: References) -> int:
    done = size = 0
    rows: list[Row] = tx.execute(QUERIES["expired_tasks"], (now, limit)).fetchall()
    for seq, task_id, length in rows:
        tx.execute(QUERIES["delete_some_events"], (seq, limit))
        done += 1
        if tx.connection.changes() >= limit:  # the task may have more events: the next step continues
            break
        tx.execute(QUERIES["bury"], {"seq": seq, "at_least": _AT_LEAST})
        tx.execute(QUERIES["outlive_task"], (task_id,))
        references += erase(tx, seq, task_id)
        size += length
        if size > _STEP_SIZE or perf_counter() > until:
            break
    return done


def _give_space_back(connection: apsw.Connection, until: float) -> int:
    """Cut free pages off the end of the file; return how many."""
    pages, free = connection.pragma("page_count"), connection.pragma("freelist_count")
    given, surplus = 0, free - max(_SPARE_PAGES, pages // _SPARE_SHARE)
    while given < surplus and perf_counter() < until:
        some = min(surplus - given, 16)
        connection.execute(f"PRAGMA incremental_vacuum({some})").fetchall()
        given += some
    return max(given, 0)


class SqliteTombstones:
    """The TombstoneStore of one file."""

    def __init__(self, clock: Clock, read: Reader) -> None:
        self._clock = clock
        self._read = read

    async def find(self, task_id: UUID) -> Tombstone | None:
        return await self._read(find_tombstone, task_id, to_micros(self._clock.now()))


def find_tombstone(connection: apsw.Connection, task_id: UUID, now: int) -> Tombstone | None:
    """Return the tombstone of a task that has expired, erased or not."""
    row = connection.execute(QUERIES["when_expired"], {"task_id": task_id.bytes, "now": now}).fetchone()
    if row is None:
        return None
    owner, expired_at = row
    return Tombstone(task_id=task_id, owner=str(owner), expired_at=from_micros(expired_at))


def check_not_expired(tx: Transaction, task_id: UUID) -> None:
    """Raise Expired if the task existed and has expired."""
    tombstone = find_tombstone(tx.connection, task_id, tx.now)
    if tombstone is not None:
        raise Expired.of(task_id, tombstone.expired_at)


def is_buried(connection: apsw.Connection, task_id: UUID, now: int) -> bool:
    """Return whether a task was erased here."""
    return connection.execute(QUERIES["is_buried"], (task_id.bytes, now)).get is not None
