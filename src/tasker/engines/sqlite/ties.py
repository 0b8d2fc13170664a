"""Ties between tasks (cache keys, unique keys, dependencies, families), and deadlines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import apsw

from tasker.clock import MICROSECOND, from_micros, to_micros
from tasker.engines.shared.refusals import joined, no_dependency, not_unique
from tasker.engines.shared.ties import Ties
from tasker.engines.shared.values import NEVER, decode_problem
from tasker.engines.sqlite import groups
from tasker.engines.sqlite.families import note_end, settle_children
from tasker.engines.sqlite.pending import Ended, fail_pending, release
from tasker.engines.sqlite.rows import Row, task_id_of
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.transaction import Transaction
from tasker.model import AfterGroup, Change, Draft, Receipt, Status, TaskProblem
from tasker.rules.lifecycle import deadline_passed, dependency_failed

_NEVER = to_micros(NEVER)


def find_ties(tx: Transaction, draft: Draft) -> Ties:
    """Find the tasks that a draft is tied to. Write nothing."""
    if draft.cache_key is not None:
        cached = _cached(tx, draft.cache_key, tx.now - draft.cache_for // MICROSECOND)
        if cached is not None:
            return Ties(joined(draft, cached))
    replaces = None
    if draft.unique_key is not None:
        row = tx.execute(QUERIES["unique_task"], (draft.owner, draft.type, draft.unique_key)).fetchone()
        replaces = None if row is None else task_id_of(row[1])
        if replaces is not None and draft.on_conflict == "return":
            return Ties(joined(draft, replaces))
        if replaces is not None and draft.on_conflict == "reject":
            return Ties(Receipt(replaces, "refused", refusal=not_unique(str(draft.unique_key), replaces)))
    if draft.after_group is not None:
        return groups.find_tie(tx, draft, draft.after_group, replaces)
    return _dependencies(tx, draft, replaces) if draft.depends_on else Ties(replaces=replaces)


def _cached(tx: Transaction, key: bytes, since: int) -> UUID | None:
    row = tx.execute(QUERIES["cached_task"], (key, tx.now)).fetchone()
    if row is None or (row[1] == "completed" and row[2] <= since):
        return None
    return task_id_of(row[0])


def _dependencies(tx: Transaction, draft: Draft, replaces: UUID | None) -> Ties:
    found = [_end_of(tx, task_id, draft.owner) for task_id in draft.depends_on]
    missing = [place for place, status in enumerate(found) if status is None]
    if missing:
        return Ties(Receipt(draft.task_id, "refused", refusal=no_dependency(draft.depends_on, missing)))
    ends = [(task_id, *end) for task_id, end in zip(draft.depends_on, found, strict=True) if end is not None]
    failed = next((end for end in ends if end[1] in (Status.FAILED, Status.CANCELLED)), None)
    if failed is not None:
        return Ties(replaces=replaces, error=dependency_failed(*failed))
    return Ties(replaces=replaces, waits_for=tuple(task_id for task_id, status, _ in ends if not status.is_terminal))


def _end_of(tx: Transaction, task_id: UUID, owner: str) -> tuple[Status, TaskProblem | None] | None:
    """Return the status and error of a task, if it exists and belongs to this owner."""
    row = tx.execute(QUERIES["end_of"], (task_id.bytes, tx.now)).fetchone()
    if row is None or row[0] != owner:
        return None
    return Status(row[1]), None if row[2] is None else decode_problem(row[2])


def wait_for(tx: Transaction, seq: int, others: Sequence[UUID]) -> None:
    """Keep a pending task from being claimed until these open tasks have completed; none if a group is waited for."""
    for other in others:
        tx.execute(QUERIES["insert_dependency"], (seq, other.bytes))
        tx.execute(QUERIES["has_dependant"], (other.bytes,))
    owner, type_, queue, has_waited = tx.execute(QUERIES["wait_for"], (_NEVER, seq)).fetchone()  # type: ignore[misc]
    if not has_waited:
        tx.counts.moved((str(owner), str(type_), str(queue)), 1)


def find_open_dependencies(
    tx: Transaction, depends_on: Sequence[UUID], *, may_miss: bool = True
) -> tuple[list[UUID], UUID | None]:
    """Return the open dependencies and None; or, if a dependency failed or was cancelled, [] and that dependency.

    may_miss: whether a dependency that no longer exists counts as completed, not as failed.
    """
    waits: list[UUID] = []
    for task_id in depends_on:
        row = tx.execute(QUERIES["end_of"], (task_id.bytes, tx.now)).fetchone()
        if (row is None and not may_miss) or (row is not None and row[1] in ("failed", "cancelled")):
            return [], task_id
        if row is not None and row[1] != "completed":
            waits.append(task_id)
    return waits, None


def resume_waiting(tx: Transaction, task_id: UUID, depends_on: Sequence[UUID], group: AfterGroup | None) -> None:
    """Settle an imported task that waits for others, some of which may have ended.

    One that waits for a group is settled when the store is opened: more tasks of the group may be imported.
    """
    row: Row | None = tx.execute(QUERIES["waiting_task"], (task_id.bytes,)).fetchone()
    if row is None:
        return
    seq = row[0]
    if group is not None:
        groups.resume_waiting(tx, seq, row[1], group)
        return
    waits, failed = find_open_dependencies(tx, depends_on)
    tx.execute(QUERIES["delete_dependencies"], (seq,))
    if failed is not None:
        error = dependency_failed(failed, Status.FAILED, None)
        if fail_pending(tx, seq, error) is not None:
            end(tx, Ended(seq, task_id, Status.FAILED, error))
    elif waits:
        wait_for(tx, seq, waits)
    else:
        release(tx, seq)


def end(tx: Transaction, one: Ended) -> None:
    """Note the end of a task that concerns others, and settle it for them."""
    note_end(tx, one)
    settle(tx, one)


def settle(tx: Transaction, one: Ended) -> None:
    """Settle the end of a task for its dependants and children, and the ends that follow from it.

    One transaction settles SETTLED_AT_ONCE of them. A task with more goes into `partitions.unsettled`.
    """
    work = [one]
    while work:
        one = work.pop()
        more = [*_settle_dependants(tx, one), *settle_children(tx, one)]
        for other in more:
            note_end(tx, other)
        work += more


def _settle_dependants(tx: Transaction, one: Ended) -> list[Ended]:
    """Release the dependants of a task that has ended, or fail them; return those whose end concerns others."""
    left = tx.partitions.left_to_settle
    rows: list[Row] = tx.execute(QUERIES["dependants"], (one.task_id.bytes, left + 1)).fetchall()
    if len(rows) > left:
        tx.partitions.settle_later(one.task_id)
    failed: list[Ended] = []
    for (seq,) in rows[:left]:
        tx.partitions.left_to_settle -= 1
        if one.status is Status.COMPLETED:
            tx.execute(QUERIES["delete_dependency"], (one.task_id.bytes, seq))
            release(tx, seq)
            continue
        tx.execute(QUERIES["delete_dependencies"], (seq,))
        reason = dependency_failed(one.task_id, one.status, one.error)
        row = fail_pending(tx, seq, reason)
        if row is not None:
            tx.changes.append(Change(row[0], Status.FAILED))
            failed += [Ended(seq, row[0], Status.FAILED, reason)] if row[1] else []
    return failed


def settle_rest(tx: Transaction) -> list[UUID]:
    """Continue with the tasks in `partitions.unsettled`; return those that are settled now."""
    done: list[UUID] = []
    for other in tuple(tx.partitions.unsettled):
        if tx.partitions.left_to_settle < 1:
            break
        tx.partitions.begin_to_settle(other)
        row: Any = tx.execute(QUERIES["ending_of"], (other.bytes,)).fetchone()
        if row is not None:  # otherwise it runs again, and its dependants wait for it
            error = None if row[2] is None else decode_problem(row[2])
            settle(tx, Ended(row[0], other, Status(row[1]), error, is_deleted=bool(row[3])))
        if row is None or tx.partitions.left_to_settle > 0:
            done.append(other)
    return done


def find_unsettled(connection: apsw.Connection) -> list[UUID]:
    """Return the ended tasks whose end is not settled for all others."""
    names = ("unsettled", "unsettled_parents")
    return [task_id_of(row[0]) for name in names for row in connection.execute(QUERIES[name])]


def fail_waiting(tx: Transaction, seq: int, error: TaskProblem) -> None:
    """Fail a task that waits for others, and settle its end."""
    row = fail_pending(tx, seq, error)
    if row is not None:
        tx.changes.append(Change(row[0], Status.FAILED))
        if row[1]:
            end(tx, Ended(seq, row[0], Status.FAILED, error))


def fail_overdue(tx: Transaction, limit: int) -> int:
    """Fail pending tasks whose deadline has passed, at most `limit`; return how many."""
    rows: list[Row] = tx.execute(QUERIES["overdue"], (tx.now, limit)).fetchall()
    for seq, deadline, last in rows:
        error = deadline_passed(from_micros(deadline), None if last is None else decode_problem(last))
        tx.execute(QUERIES["delete_dependencies"], (seq,))
        failed = fail_pending(tx, seq, error)
        if failed is not None:
            tx.partitions.ended(tx.connection, tx.now, *failed[2:])  # others may be parked behind it
            tx.changes.append(Change(failed[0], Status.FAILED))
            if failed[1]:
                end(tx, Ended(seq, failed[0], Status.FAILED, error))
    return len(rows)
