"""Changes of pending tasks without an attempt: released, woken, failed, cancelled."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from tasker.engines.shared.journal import ended
from tasker.engines.shared.log import Head
from tasker.engines.shared.values import encode
from tasker.engines.sqlite import failures
from tasker.engines.sqlite.rows import Row, task_id_of
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.transaction import Transaction
from tasker.model import Change, Status, TaskProblem
from tasker.rules.lifecycle import MAX_INTERRUPTIONS


class Ended(NamedTuple):
    """A task that has ended, and whose end concerns others. is_deleted: a client has deleted it."""

    seq: int
    task_id: UUID
    status: Status
    error: TaskProblem | None = None
    is_deleted: bool = False


def release(tx: Transaction, seq: int) -> None:
    """Make a task claimable if it waits for no other task any more."""
    if tx.execute(QUERIES["any_dependency"], (seq,)).fetchone() is not None:
        return
    row: Row | None = tx.execute(QUERIES["release"], {"now": tx.now, "seq": seq}).fetchone()
    if row is None:
        return
    task_id, owner, queue, type_, due_at = row
    if due_at <= tx.now:
        tx.counts.moved((owner, type_, queue), -1)
    tx.partitions.joined(queue, type_, due_at, later=due_at > tx.now)
    tx.changes.append(Change(task_id_of(task_id), Status.PENDING))


def wake(tx: Transaction, seq: int) -> None:
    """Make a parked task due now; a pending task that is not parked stays as it is."""
    row: Row | None = tx.execute(QUERIES["wake"], {"now": tx.now, "seq": seq}).fetchone()
    if row is None:
        return
    task_id, owner, queue, type_, interruptions = row
    tx.execute(QUERIES["not_awaited"], (seq,))
    tx.counts.moved((owner, type_, queue), -1)
    tx.partitions.joined(queue, type_, tx.now, later=False, suspect=interruptions >= MAX_INTERRUPTIONS)
    tx.changes.append(Change(task_id_of(task_id), Status.PENDING))


def fail_pending(tx: Transaction, seq: int, error: TaskProblem) -> Row | None:
    """Fail a pending task without an attempt.

    Return its id, whether others depend on it, its queue, owner and concurrency key; None if it is not pending.
    """
    values = {"now": tx.now, "seq": seq, "error": encode(error)}
    row: Row | None = tx.execute(QUERIES["fail_pending"], values).fetchone()
    if row is None:
        return None
    type_, has_waited, column, has_dependants, queue, owner, key, *columns = row
    task_id, head = task_id_of(column), Head(*columns)
    tx.counts.dropped((owner, type_, queue), Status.FAILED, was_waiting=bool(has_waited))
    tx.journal.append(ended(task_id, Status.FAILED, head.attempt, head.last + 1))
    failures.note(tx, task_id, error)
    return task_id, has_dependants, queue, owner, key


def cancel_pending(tx: Transaction, seq: int, task_id: UUID) -> bool:
    """Cancel a pending task. Return whether its end concerns others."""
    row: Row = tx.execute(QUERIES["cancel_pending"], {"now": tx.now, "seq": seq}).fetchone()  # type: ignore[assignment]
    has_dependants, type_, has_waited, queue, owner, key, *head_columns = row
    head = Head(*head_columns)
    tx.counts.dropped((str(owner), str(type_), str(queue)), Status.CANCELLED, was_waiting=bool(has_waited))
    tx.journal.append(ended(task_id, Status.CANCELLED, head.attempt, head.last + 1))
    tx.execute(QUERIES["delete_dependencies"], (seq,))
    tx.partitions.ended(tx.connection, tx.now, str(queue), str(owner), key)
    tx.changes.append(Change(task_id, Status.CANCELLED))
    return bool(has_dependants)


def ask_to_stop(tx: Transaction, seq: int, task_id: UUID) -> None:
    """Ask the worker of a running task to cancel it."""
    tx.execute(QUERIES["request_cancel"], (tx.now, seq))
    tx.changes.append(Change(task_id, Status.RUNNING, cancel_requested=True))
