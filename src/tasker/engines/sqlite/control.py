"""Cancel, retry and delete stored tasks; count and choose the tasks of a filter.

A function may raise RequestError, but only before its first write (GroupCommit relies on it).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import apsw

from tasker.clock import Clock, to_micros
from tasker.engines.shared.journal import logged
from tasker.engines.shared.log import Head, reopened
from tasker.engines.shared.looks import Bounds, Look
from tasker.engines.shared.refusals import cannot, child_of_open, dependency_not_completed, key_in_use, not_settled
from tasker.engines.sqlite import groups, lists, reads, retention
from tasker.engines.sqlite.families import is_of_open_parent, reopen
from tasker.engines.sqlite.pending import Ended, ask_to_stop, cancel_pending
from tasker.engines.sqlite.reader import Reader
from tasker.engines.sqlite.retention import References, check_not_expired
from tasker.engines.sqlite.rows import draft_of, is_over, keep_entries, optional_micros, task_id_of
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.stored_steps import forget_steps
from tasker.engines.sqlite.ties import end, find_open_dependencies, settle, wait_for
from tasker.engines.sqlite.transaction import Transaction
from tasker.errors import NotFound
from tasker.model import AfterGroup, Change, Draft, Status, Task, TaskFilter
from tasker.model.control import Chosen, Counted
from tasker.model.steps import Forget

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
    return find_task(tx, task_id)


def cancel_open(tx: Transaction, task_id: UUID) -> tuple[str, bool]:
    """Cancel a task as `cancel` does. Return its status before, and whether it was open; else nothing changed."""
    seq, status, *_ = _row(tx, task_id)
    if status == "running":
        ask_to_stop(tx, seq, task_id)
        return status, True
    if status != "pending":
        return status, False
    if cancel_pending(tx, seq, task_id):
        end(tx, Ended(seq, task_id, Status.CANCELLED))
    return status, True


def retry(tx: Transaction, task_id: UUID, forget: Forget | None = None) -> Task:
    """Make a failed or cancelled task pending again."""
    seq, status, *_ = _row(tx, task_id)
    if status not in ("failed", "cancelled"):
        raise cannot("retry", status)
    known = find_task(tx, task_id)
    waits_for = _check_ties(tx, known)
    after = None if known.depends_on_group is None else groups.check_retry(tx, known)
    if forget is not None:
        forget_steps(tx, seq, forget)
    _run_again(tx, known, waits_for, after)
    return find_task(tx, task_id)


def run_again(tx: Transaction, task_id: UUID) -> None:
    """Make a failed or cancelled task that no others are tied to pending again."""
    _run_again(tx, find_task(tx, task_id), ())


def _run_again(tx: Transaction, known: Task, waits_for: Sequence[UUID], after: AfterGroup | None = None) -> None:
    """Make an ended task pending again. waits_for, after: the open tasks, or the open group, that it waits for."""
    task_id = known.task_id
    seq, status, worker, *columns, _ = _row(tx, task_id)
    if worker is not None:
        tx.execute(QUERIES["keep_attempt"], (*columns, seq))
    head = Head(*tx.execute(QUERIES["head_by_seq"], (seq,)).fetchone())  # type: ignore[misc]
    log = reopened(head, tx.now)
    last = keep_entries(tx.connection, seq, log)
    tx.journal.append(logged(task_id, log[-1:]))
    tx.execute(QUERIES["retry_task"], (tx.now, last, seq))
    tx.counts.reopened((known.owner or "", known.type, known.queue))
    tx.execute(QUERIES["forget_failures"], {"seqs": f"[{seq}]"})
    reopen(tx, seq, status)
    if after is not None:
        groups.wait_for(tx, seq, known.owner or "", after)
    if waits_for or after is not None:
        wait_for(tx, seq, waits_for)
    else:
        tx.partitions.joined(known.queue, known.type, tx.now, later=False)
    tx.partitions.note_deadline(optional_micros(known.deadline))
    tx.changes.append(Change(task_id, Status.PENDING))


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
    """Erase a terminal task and all that belongs to it. Raises Conflict until its dependants are settled.

    One with children is only marked, and `prune` erases it after them.
    """
    seq, status, *_ = _row(tx, task_id)
    if status in ("pending", "running"):
        raise cannot("delete", status)
    if is_of_open_parent(tx, seq):
        raise child_of_open()
    if tx.execute(QUERIES["any_child"], (seq,)).fetchone() is not None:
        retention.mark_deleted(tx, seq, task_id)
        settle(tx, Ended(seq, task_id, Status(status), is_deleted=True))
        return []
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


def find_row(tx: Transaction, task_id: UUID) -> tuple[int, str]:
    """Return the seq and status of a task. Raises NotFound, Expired."""
    return _row(tx, task_id)[:2]


def find_task(tx: Transaction, task_id: UUID) -> Task:
    """Return a task that exists."""
    task = reads.find(tx.connection, task_id, tx.now)
    assert task is not None
    return task


def _find_draft(connection: apsw.Connection, task_id: UUID) -> Draft | None:
    row = connection.execute(QUERIES["draft_by_id"], (task_id.bytes,)).fetchone()
    return None if row is None else draft_of(row)
