"""Erase tasks, for their clients or when they expire, and keep tombstones of expired ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any
from uuid import UUID

import apsw

from tasker.clock import MICROSECOND, Clock, from_micros, to_micros
from tasker.engines.shared.stores.failures import prune_failures
from tasker.engines.sqlite import groups
from tasker.engines.sqlite.reader import Reader
from tasker.engines.sqlite.result_files import is_reference
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.tables import at_once, rows_of
from tasker.engines.sqlite.transaction import Transaction
from tasker.errors import Expired
from tasker.model import Tombstone
from tasker.model.failures import KEEP_FAILURES_FOR
from tasker.model.keeping import FOREVER, KEEP_TOMBSTONES_FOR

_AT_LEAST = KEEP_TOMBSTONES_FOR // MICROSECOND
_STEP = 0.002
"""Seconds of the event loop after which a step ends: submissions wait meanwhile."""
_STEP_SIZE = 1 << 20
"""Bytes of tasks after which a step ends: it overwrites all of them on disk."""
_AT_ONCE = 250
"""Limit of the tasks that are erased by one round of statements."""
_ROWS_AT_ONCE = 1000
"""Limit of their rows, attempts and tags; the last task may exceed it."""
_KEYS_AT_ONCE = 200
"""Limit of the idempotency keys of one step: each is on a page of its own, which the commit writes."""
_PAGES_AT_ONCE = 16
"""Free pages that one statement cuts off."""
_SPARE_PAGES, _SPARE_SHARE = 256, 10
"""Free pages kept in the file for new tasks: 256, or a tenth of the file, whichever is larger."""

_ERASE = (
    "erase_tags", "erase_steps", "forget_children", "forget_failures", "forget_schedules", "erase_attempts",
    "erase_events", "erase_secrets",
    "erase_deliveries", "erase_webhooks", "erase_tasks",
)  # fmt: skip
"""The queries that erase tasks, in order: the tags of a task are read off its row."""

References = list[bytes]
"""References to result files, to be removed once the transaction is durable."""


def erase(tx: Transaction, chosen: Mapping[str, Any]) -> References:
    """Erase chosen tasks and all their rows in other tables, except idempotency keys. No other code erases tasks."""
    results: list[Any] = tx.execute(QUERIES["references"], chosen).fetchall()
    groups.erased(tx, chosen)
    for name in _ERASE:
        tx.execute(QUERIES[name], chosen)
    return [result for (result,) in results if is_reference(result)]


def delete(tx: Transaction, seq: int, task_id: UUID) -> References:
    """Erase a task for its client, with its keys."""
    values = {"seq": seq, "now": tx.now, "forever": FOREVER // MICROSECOND, "at_least": _AT_LEAST}
    tx.execute(QUERIES["bury_deleted"], values)
    tx.execute(QUERIES["delete_keys"], (task_id.bytes,))
    return erase(tx, _chosen([(seq, task_id.bytes)]))


def mark_deleted(tx: Transaction, seq: int, task_id: UUID) -> None:
    """Let a task be gone for its clients at once; `prune` erases it."""
    values = {"seq": seq, "now": tx.now, "forever": FOREVER // MICROSECOND, "at_least": _AT_LEAST}
    tx.execute(QUERIES["bury_deleted"], values)
    tx.execute(QUERIES["delete_keys"], (task_id.bytes,))
    tx.execute(QUERIES["expire_deleted"], (seq,))
    tx.execute(QUERIES["children_unsettled"], (seq,))


def prune(tx: Transaction, now: int, limit: int) -> tuple[int, References]:
    """Erase some rows that have expired at `now` (microseconds); return how much was done."""
    references: References = []
    until = perf_counter() + _STEP
    done = 0
    for query, most in (("prune_keys", min(limit, _KEYS_AT_ONCE)), ("prune_tombstones", limit)):
        tx.execute(QUERIES[query], (now, most))
        done += tx.connection.changes()
        if done and perf_counter() > until:
            return done, references
    done += at_once(prune_failures(rows_of(tx), from_micros(now) - KEEP_FAILURES_FOR, limit))
    done += _prune_tasks(tx, now, limit, until, references)
    return done or _give_space_back(tx.connection, limit, until), references


def _prune_tasks(tx: Transaction, now: int, limit: int, until: float, references: References) -> int:
    """Erase some expired tasks, the first to expire first; add their result files to `references`. Return how many."""
    done = size = 0
    while done < limit:
        asked = min(limit - done, _AT_ONCE)
        tasks = _first(tx.execute(QUERIES["expired_tasks"], (now, asked)).fetchall())
        if not tasks:
            break
        done += len(tasks)
        chosen = _chosen([(seq, task_id) for seq, task_id, *_ in tasks])
        chosen |= {"at_least": _AT_LEAST, "limit": limit, "now": tx.now, "forever": FOREVER // MICROSECOND}
        tx.execute(QUERIES["delete_some_events"], chosen)
        if tx.connection.changes() >= limit:  # the tasks may have more events: the next step continues
            break
        if _erase_some_steps(tx, chosen, limit):
            break
        tx.execute(QUERIES["bury"], chosen)
        tx.execute(QUERIES["outlive_tasks"], chosen)
        references += erase(tx, chosen)
        size += sum(length for *_, length in tasks)
        if size > _STEP_SIZE or perf_counter() > until:
            break
    return done


def _erase_some_steps(tx: Transaction, chosen: Mapping[str, Any], limit: int) -> bool:
    """Erase some steps of chosen tasks; return whether they may have more."""
    found: list[Any] = tx.execute(QUERIES["steps_to_erase"], chosen).fetchall()
    ids, size = [], 0
    for id_, length in found:
        ids.append(id_)
        size += length
        if size > _STEP_SIZE:
            break
    if ids:
        tx.execute(QUERIES["forget_steps"], {"ids": json.dumps(ids)})
    return len(ids) < len(found) or len(found) >= limit


def _first(tasks: list[Any]) -> list[Any]:
    """Return the first tasks, up to the one that reaches the limit of rows or of bytes."""
    rows = size = 0
    for place, (*_, of_task, length) in enumerate(tasks, start=1):
        rows, size = rows + of_task, size + length
        if rows > _ROWS_AT_ONCE or size > _STEP_SIZE:
            return tasks[:place]
    return tasks


def _chosen(tasks: Sequence[tuple[int, bytes]]) -> dict[str, Any]:
    """Return the values by which queries choose tasks, from the seq and the id of each."""
    seqs, task_ids = [seq for seq, _ in tasks], [task_id.hex() for _, task_id in tasks]
    return {"seqs": json.dumps(seqs), "task_ids": json.dumps(task_ids)}


def _give_space_back(connection: apsw.Connection, limit: int, until: float) -> int:
    """Cut at most `limit` free pages off the end of the file, some even if the step is over; return how many."""
    pages, free = connection.pragma("page_count"), connection.pragma("freelist_count")
    given, surplus = 0, min(limit, free - max(_SPARE_PAGES, pages // _SPARE_SHARE))
    while given < surplus:
        some = min(surplus - given, _PAGES_AT_ONCE)
        connection.execute(f"PRAGMA incremental_vacuum({some})").fetchall()
        given += some
        if perf_counter() > until:
            break
    return given


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
