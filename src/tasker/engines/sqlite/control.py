"""Cancel, retry and delete stored tasks; count and choose the tasks of a filter.

A function may raise RequestError, but only before its first write (GroupCommit relies on it).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import apsw

from tasker.clock import Clock, to_micros
from tasker.engines.shared.journal import ended, logged
from tasker.engines.shared.log import Head, reopened
from tasker.engines.shared.looks import Bounds, Look
from tasker.engines.shared.refusals import cannot, dependency_not_completed, key_in_use, not_settled
from tasker.engines.sqlite import groups, lists, reads, retention
from tasker.engines.sqlite.reader import Reader
from tasker.engines.sqlite.retention import References, check_not_expired
from tasker.engines.sqlite.rows import draft_of, is_over, keep_entries, optional_micros, task_id_of
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.ties import find_open_dependencies, settle_dependants, wait_for
from tasker.engines.sqlite.transaction import Transaction
from tasker.errors import NotFound
from tasker.model import Change, Draft, Status, Task, TaskFilter
from tasker.model.control import Chosen, Counted

Erase = Callable[[Callable[[Transaction], tuple[int, References]]], Awaitable[int]]


@dataclass
class SqliteControl:
    """Implements Control. bounds: of a look."""

    _clock: Clock
    _read: Reader
    _bounds: Bounds

    async def find_draft(self, task_id: UUID) -> Draft | None:
        return await self._read(_find_draft, task_id)

    async def count(self, where: TaskFilter, *, cursor: str | None = None) -> Counted:
        return await self._read.scan(lists.count, where, Look.after(cursor, self._bounds), self._now())

    async def choose(self, where: TaskFilter, *, limit: int, cursor: str | None) -> Chosen:
        return await self._read.scan(lists.choose, where, limit, Look.after(cursor, self._bounds, limit), self._now())

    def _now(self) -> int:
        return to_micros(self._clock.now())


def cancel(tx: Transaction, task_id: UUID) -> Task:
    """Cancel a pending task, or ask the worker of a running one to stop."""
    status, is_done = cancel_open(tx, task_id)
    if not is_done:
        raise cannot("cancel", status)
    return _task(tx, task_id)


def cancel_open(tx: Transaction, task_id: UUID) -> tuple[str, bool]:
    """Cancel a task as `cancel` does. Return its status before, and whether it was open; else nothing changed."""
    seq, status, *_ = _row(tx, task_id)
    if status == "running":
        tx.execute(QUERIES["request_cancel"], (tx.now, seq))
        tx.changes.append(Change(task_id, Status.RUNNING, cancel_requested=True))
        return status, True
    if status != "pending":
        return status, False
    row = tx.execute(QUERIES["cancel_pending"], {"now": tx.now, "seq": seq}).fetchone()
    has_dependants, type_, has_waited, queue, owner, key, *head_columns = row  # type: ignore[misc]
    head = Head(*head_columns)
    tx.counts.dropped((str(owner), str(type_), str(queue)), Status.CANCELLED, was_waiting=bool(has_waited))
    tx.journal.append(ended(task_id, Status.CANCELLED, head.attempt, head.last + 1))
    tx.execute(QUERIES["delete_dependencies"], (seq,))
    tx.partitions.ended(tx.connection, tx.now, str(queue), str(owner), key)
    tx.changes.append(Change(task_id, Status.CANCELLED))
    if has_dependants:
        settle_dependants(tx, task_id, Status.CANCELLED, None)
    return status, True


def retry(tx: Transaction, task_id: UUID) -> Task:
    """Make a failed or cancelled task pending again."""
    seq, status, worker, *end, _ = _row(tx, task_id)
    if status not in ("failed", "cancelled"):
        raise cannot("retry", status)
    known = _task(tx, task_id)
    waits_for = _check_ties(tx, known)
    after = known.depends_on_group
    waits_for_group = after is not None and groups.check_retry(tx, known.owner or "", after)
    if worker is not None:
        tx.execute(QUERIES["keep_attempt"], (*end, seq))
    head = Head(*tx.execute(QUERIES["head_by_seq"], (seq,)).fetchone())  # type: ignore[misc]
    log = reopened(head, tx.now)
    last = keep_entries(tx.connection, seq, log)
    tx.journal.append(logged(task_id, log[-1:]))
    tx.execute(QUERIES["retry_task"], (tx.now, last, seq))
    tx.counts.reopened((known.owner or "", known.type, known.queue))
    tx.execute(QUERIES["forget_failures"], {"seqs": f"[{seq}]"})
    groups.moved(tx, task_id, Status.PENDING)
    if waits_for_group and after is not None:
        groups.wait_for(tx, seq, known.owner or "", after)
    if waits_for or waits_for_group:
        wait_for(tx, seq, waits_for)
    else:
        tx.partitions.joined(known.queue, known.type, tx.now, later=False)
    tx.partitions.note_deadline(optional_micros(known.deadline))
    tx.changes.append(Change(task_id, Status.PENDING))
    return _task(tx, task_id)


def _check_ties(tx: Transaction, task: Task) -> list[UUID]:
    """Return the tasks that a retried task must wait for. Raises Conflict if other tasks forbid the retry."""
    if task.unique_key is not None:
        row = tx.execute(QUERIES["unique_task"], (task.owner or "", task.type, task.unique_key)).fetchone()
        if row is not None:
            raise key_in_use(task_id_of(row[1]))
    was_orphaned = task.error is not None and task.error.type == "/problems/dependency-failed"
    saw_all = task.attempt > 0 and not was_orphaned
    waits_for, failed = find_open_dependencies(tx, task.depends_on, may_miss=saw_all)
    if failed is not None:
        raise dependency_not_completed(failed)
    return waits_for


def delete(tx: Transaction, task_id: UUID) -> References:
    """Erase a terminal task and all that belongs to it. Raises Conflict until its dependants are settled."""
    seq, status, *_ = _row(tx, task_id)
    if status in ("pending", "running"):
        raise cannot("delete", status)
    if task_id in tx.partitions.unsettled:
        raise not_settled()
    return retention.delete(tx, seq, task_id)


def _row(
    tx: Transaction, task_id: UUID
) -> tuple[int, str, str | None, int | None, str | None, bytes | None, int | None, int | None]:
    """Return the columns of a task by which changes are allowed or refused. Raises NotFound, Expired."""
    row = tx.execute(QUERIES["status_by_id"], (task_id.bytes,)).fetchone()
    if row is None or is_over(row[-1], tx.now):
        check_not_expired(tx, task_id)
        raise NotFound(f"there is no task {task_id}")
    return row  # type: ignore[no-any-return]


def _task(tx: Transaction, task_id: UUID) -> Task:
    task = reads.find(tx.connection, task_id, tx.now)
    assert task is not None
    return task


def _find_draft(connection: apsw.Connection, task_id: UUID) -> Draft | None:
    row = connection.execute(QUERIES["draft_by_id"], (task_id.bytes,)).fetchone()
    return None if row is None else draft_of(row)
