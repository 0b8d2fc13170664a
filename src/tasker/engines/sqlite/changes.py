"""What the engine writes: each function is one piece of work inside a transaction.

A function may raise RequestError, but only before its first write (GroupCommit relies on it).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import apsw
from msgspec import structs

from tasker.clock import to_micros
from tasker.engines.protocol import ClaimRequest, Heartbeat
from tasker.engines.shared.journal import created, ended, logged, started
from tasker.engines.shared.log import Entry, Head, followed, numbered, reopened
from tasker.engines.shared.values import encode, id_taken, key_in_use
from tasker.engines.sqlite import reads
from tasker.engines.sqlite import retention as erasure
from tasker.engines.sqlite.claim import Lines, lease_end
from tasker.engines.sqlite.rows import Row, draft_row, first_claim, is_over, optional_micros, task_id_of
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.stores.journal import Notes
from tasker.engines.sqlite.stores.usage import DayTally, day_of
from tasker.engines.sqlite.stores.webhooks import check_join, insert_with_task, join_task
from tasker.engines.sqlite.ties import (
    fail_pending,
    find_open_dependencies,
    find_ties,
    settle_dependants,
    wait_for,
)
from tasker.errors import Conflict, Expired, NotFound
from tasker.model import Change, Claim, Draft, Lease, Receipt, Report, Status, Task, TaskProblem, Transition
from tasker.rules.lifecycle import MAX_INTERRUPTIONS

_MICRO = timedelta(microseconds=1)


def insert(
    connection: apsw.Connection, lines: Lines, draft: Draft, now: int, *, alone: bool
) -> tuple[Receipt, list[Change]]:
    """Store a draft, unless another task answers for it. `alone`: a waiting worker may take it at once."""
    key = draft.idempotency
    if key is not None:
        known = connection.execute(QUERIES["find_key"], (key.key, now)).fetchone()
        if known is not None:
            task_id, fingerprint, reply = known
            same = fingerprint == key.fingerprint
            return Receipt(task_id_of(task_id), "replayed" if same else "mismatched", reply if same else None), []
    if draft.is_chosen:
        _check_free(connection, draft.task_id, now)
    if draft.cache_key is not None or draft.unique_key is not None or draft.depends_on or draft.refusal is not None:
        return _insert_tied(connection, lines, draft, now)
    _insert(connection, lines, draft, now, alone=alone)
    _keep_key(connection, draft, draft.task_id)
    return Receipt(draft.task_id, "stored"), [Change(draft.task_id, Status.PENDING)]


def _insert_tied(connection: apsw.Connection, lines: Lines, draft: Draft, now: int) -> tuple[Receipt, list[Change]]:
    """Store a draft that is tied to other tasks, as these allow."""
    ties = find_ties(connection, draft, now)
    if ties.receipt is not None:
        if ties.receipt.outcome == "joined":
            refusal = None if draft.webhook is None else check_join(connection, draft.webhook, ties.receipt.task_id)
            if refusal is not None:
                return Receipt(draft.task_id, "refused", refusal=refusal), []
            _keep_key(connection, draft, ties.receipt.task_id)
            if draft.webhook is not None:
                join_task(connection, draft.webhook, ties.receipt.task_id)
        return ties.receipt, []
    if draft.refusal is not None:
        return Receipt(draft.task_id, "refused", refusal=draft.refusal), []
    news: list[Change] = []
    if ties.replaces is not None:
        news += _cancel(connection, lines, ties.replaces, now)[1]
        ties = find_ties(connection, draft, now)  # what it depends on may have ended by that
    seq = _insert(connection, lines, draft, now, alone=False)
    _keep_key(connection, draft, draft.task_id)
    if ties.waits_for:
        wait_for(connection, seq, ties.waits_for)
    if ties.error is not None:
        fail_pending(connection, lines.notes, seq, ties.error, now)
    status = Status.PENDING if ties.error is None else Status.FAILED
    return Receipt(draft.task_id, "stored"), [*news, Change(draft.task_id, status)]


def _insert(connection: apsw.Connection, lines: Lines, draft: Draft, now: int, *, alone: bool) -> int:
    """Store a draft, and return its seq."""
    lines.notes.add(created(draft.task_id))
    taker = lines.taker(draft.queue, draft.type) if alone and draft.run_at is None else None
    if taker is None:
        row = draft_row(draft, now)
        connection.execute(QUERIES["insert_task"], row)
        lines.joined(draft.queue, draft.type, row[7], later=row[3] != "queued", priority=draft.priority)
        if draft.deadline is not None:
            lines.note_deadline(to_micros(draft.deadline))
    else:
        taker.served.append(_insert_running(connection, draft, taker.request, now, lines.steady))
        lines.notes.add(started(draft.task_id, 1))
    seq = connection.last_insert_rowid()
    if draft.tags:
        connection.executemany(QUERIES["insert_tag"], [(tag, seq) for tag in draft.tags])
    if draft.secrets is not None:
        connection.execute(QUERIES["insert_secrets"], (draft.task_id.bytes, draft.secrets))
    if draft.webhook is not None:
        insert_with_task(connection, draft.webhook, draft.task_id)
    return seq


def _keep_key(connection: apsw.Connection, draft: Draft, task_id: UUID) -> None:
    """Keep a draft's idempotency key; where another task answers for it, that one is the reply, as it is by then."""
    key = draft.idempotency
    if key is not None:
        reply = key.reply if task_id == draft.task_id else b""
        connection.execute(
            QUERIES["insert_key"], (key.key, task_id.bytes, key.fingerprint, to_micros(key.expires_at), reply)
        )


def _insert_running(connection: apsw.Connection, draft: Draft, request: ClaimRequest, now: int, steady: int) -> Claim:
    task_id, type_, queue, _, *rest = draft_row(draft, now)
    lease_ends = lease_end(steady, request)
    connection.execute(QUERIES["insert_running"], (task_id, type_, queue, *rest, request.worker, now, lease_ends))
    return first_claim(draft, request.worker, now)


def extend(connection: apsw.Connection, leases: Sequence[Lease], expires_at: int) -> Heartbeat:
    """Extend the leases that are still current."""
    beat = Heartbeat(set(), set())
    for lease in leases:
        row = connection.execute(QUERIES["extend_lease"], (expires_at, lease.task_id.bytes, lease.attempt)).fetchone()
        if row is None:
            beat.lost.add(lease)
        elif row[0] is not None:
            beat.cancelled.add(lease)
    return beat


def record(
    connection: apsw.Connection, notes: Notes, tally: DayTally, lease: Lease, report: Report, now: int
) -> tuple[bool, list[Change]]:
    """Store what a running attempt says, if `lease` is current."""
    held = _running(connection, lease)
    if held is None:
        return False, []
    _store(connection, notes, tally, held, report, now)
    return True, [Change(lease.task_id, Status.RUNNING, spoke=True)]


def complete(
    connection: apsw.Connection, lines: Lines, tally: DayTally, lease: Lease, change: Transition, report: Report | None
) -> tuple[bool, list[Change]]:
    """End an attempt, if `lease` is current."""
    if change.status is Status.PENDING or report is not None:
        held = _running(connection, lease)
        if held is None:
            return False, []
        if report is not None:
            held = _store(connection, lines.notes, tally, held, report, to_micros(change.at))
        if change.status is Status.PENDING and not held.cancelled:
            _back_to_line(connection, lines, tally, held, change)
            return True, [Change(lease.task_id, Status.PENDING)]
        if change.status is Status.PENDING:
            change = structs.replace(change, status=Status.CANCELLED, run_at=None, reason=None)
    return _end(connection, lines, tally, lease, change)


def cancel(connection: apsw.Connection, lines: Lines, task_id: UUID, now: int) -> tuple[Task, list[Change]]:
    """Cancel a pending task, or ask the worker of a running one to."""
    status, news = _cancel(connection, lines, task_id, now)
    if not news:
        raise Conflict(f"the task is {status}: only a pending or running task can be cancelled")
    return _task(connection, task_id, now), news


def _cancel(connection: apsw.Connection, lines: Lines, task_id: UUID, now: int) -> tuple[str, list[Change]]:
    """Do what `cancel` does; return the status that was found, and no news if it is terminal."""
    seq, status, *_ = _row(connection, task_id, now)
    if status == "running":
        connection.execute(QUERIES["request_cancel"], (now, seq))
        return status, [Change(task_id, Status.RUNNING, cancel_requested=True)]
    if status != "pending":
        return status, []
    row = connection.execute(QUERIES["cancel_pending"], {"now": now, "seq": seq}).fetchone()
    has_dependants, queue, owner, key, *head_columns = row  # type: ignore[misc]
    head = Head(*head_columns)
    lines.notes.add(ended(task_id, Status.CANCELLED, head.attempt, head.last + 1))
    connection.execute(QUERIES["delete_dependencies"], (seq,))
    lines.ended(connection, str(queue), str(owner), key)
    news = [Change(task_id, Status.CANCELLED)]
    if has_dependants:
        news += settle_dependants(connection, lines, task_id, Status.CANCELLED, None, now)
    return status, news


def retry(connection: apsw.Connection, lines: Lines, task_id: UUID, now: int) -> tuple[Task, list[Change]]:
    """Make a failed or cancelled task pending again."""
    seq, status, worker, *end, _ = _row(connection, task_id, now)
    if status not in ("failed", "cancelled"):
        raise Conflict(f"the task is {status}: only a failed or cancelled task can be retried")
    known = _task(connection, task_id, now)
    waits_for = _check_ties(connection, known, now)
    if worker is not None:
        connection.execute(QUERIES["keep_attempt"], (*end, seq))
    head = Head(*connection.execute(QUERIES["head_by_seq"], (seq,)).fetchone())  # type: ignore[misc]
    log = reopened(head, now)
    last = _keep(connection, seq, log)
    lines.notes.add(logged(task_id, log[-1:]))
    connection.execute(QUERIES["retry_task"], (now, last, seq))
    if waits_for:
        wait_for(connection, seq, waits_for)
    else:
        lines.joined(known.queue, known.type, now, later=False)
    lines.note_deadline(optional_micros(known.deadline))
    return _task(connection, task_id, now), [Change(task_id, Status.PENDING)]


def _check_ties(connection: apsw.Connection, task: Task, now: int) -> list[UUID]:
    """Return what a task that is run again must wait for. Raises Conflict where other tasks do not allow it."""
    if task.unique_key is not None:
        row = connection.execute(QUERIES["unique_task"], (task.owner or "", task.type, task.unique_key)).fetchone()
        if row is not None:
            raise key_in_use(task_id_of(row[1]))
    was_orphaned = task.error is not None and task.error.type == "/problems/dependency-failed"
    saw_all = task.attempt > 0 and not was_orphaned
    waits_for, failed = find_open_dependencies(connection, task.depends_on, now, may_miss=saw_all)
    if failed is not None:
        raise Conflict(f"task {failed}, on which it depends, has not completed: retry that one first")
    return waits_for


def delete(connection: apsw.Connection, lines: Lines, task_id: UUID, now: int) -> erasure.References:
    """Erase a terminal task with all that belongs to it; what it depended on is settled."""
    seq, status, *_ = _row(connection, task_id, now)
    if status in ("pending", "running"):
        raise Conflict(f"the task is {status}: cancel it first, then delete it")
    if task_id in lines.unsettled:
        raise Conflict("tasks that depend on it are about to hear of its end: delete it a little later")
    return erasure.delete(connection, seq, task_id, now)


def probe(connection: apsw.Connection, now: int) -> None:
    """Write something."""
    connection.execute(QUERIES["probe"], (now,))


class _Held(NamedTuple):
    """A running attempt, and what its row tells of the log."""

    task_id: UUID
    seq: int
    cancelled: bool
    type: str
    owner: str
    usage: bytes
    head: Head


def _running(connection: apsw.Connection, lease: Lease) -> _Held | None:
    row = connection.execute(QUERIES["running_attempt"], (lease.task_id.bytes, lease.attempt)).fetchone()
    if row is None:
        return None
    seq, cancel_requested_at, type_, owner, usage, *head = row
    return _Held(lease.task_id, int(seq), cancel_requested_at is not None, type_, owner, usage, Head(*head))


def _store(connection: apsw.Connection, notes: Notes, tally: DayTally, held: _Held, report: Report, now: int) -> _Held:
    """Store what the attempt says; return what its row tells then."""
    if report.progress is not None:
        connection.execute(QUERIES["set_progress"], (encode(report.progress), held.seq))
    if report.usage is not None:
        connection.execute(QUERIES["set_usage"], (report.usage, held.seq))
        tally.use((day_of(now), held.owner, held.type), held.usage, report.usage)
    if not report.events:
        return held
    words = [(event.type, to_micros(event.time), event.data) for event in report.events]
    log = numbered(held.head, words)
    last = _keep(connection, held.seq, log)
    notes.add(logged(held.task_id, log))
    return held._replace(head=held.head._replace(kept=last))


def _keep(connection: apsw.Connection, seq: int, entries: Sequence[Entry]) -> int:
    """Add entries to a task's log; return the number of the last one."""
    connection.executemany(QUERIES["insert_event"], [(seq, *entry) for entry in entries])
    return entries[-1].sequence


def _back_to_line(connection: apsw.Connection, lines: Lines, tally: DayTally, held: _Held, change: Transition) -> None:
    seq, error, at = held.seq, _error(change.error), to_micros(change.at)
    tally.end((day_of(at), held.owner, held.type), change)
    due_at = at if change.run_at is None else lines.now + (change.run_at - change.at) // _MICRO
    log = followed(held.head, change, at)
    last = _keep(connection, seq, log)
    lines.notes.add(logged(held.task_id, log[-1:]))
    connection.execute(QUERIES["keep_attempt"], (at, change.ending, error, change.peak_memory, seq))
    row = (change.reason, due_at, change.tries, change.crashes, change.interruptions, error, last, seq)
    queue, type_, deadline, owner, key = connection.execute(QUERIES["back_to_line"], row).fetchone()  # type: ignore[misc]
    lines.note_deadline(deadline)
    suspect = change.interruptions >= MAX_INTERRUPTIONS
    lines.joined(str(queue), str(type_), due_at, later=change.reason != "queued", suspect=suspect)
    lines.ended(connection, str(queue), str(owner), key)


def _end(
    connection: apsw.Connection, lines: Lines, tally: DayTally, lease: Lease, change: Transition
) -> tuple[bool, list[Change]]:
    at = to_micros(change.at)
    values = (
        change.status.value, change.ending, at, change.tries, change.crashes, change.result,
        _error(change.error), change.peak_memory, at, lease.task_id.bytes, lease.attempt,
    )  # fmt: skip
    row: Row | None = connection.execute(QUERIES["end_attempt"], values).fetchone()
    if row is None:
        return False, []
    has_dependants, queue, owner, key = row
    tally.end((day_of(at), change.owner, change.type), change)
    lines.notes.add(ended(lease.task_id, change.status, lease.attempt))
    lines.ended(connection, queue, owner, key)
    news = [Change(lease.task_id, change.status)]
    if has_dependants:
        news += settle_dependants(connection, lines, lease.task_id, change.status, change.error, min(at, lines.now))
    return True, news


def _error(error: TaskProblem | None) -> bytes | None:
    return None if error is None else encode(error)


def _check_free(connection: apsw.Connection, task_id: UUID, now: int) -> None:
    """Raise Conflict if a chosen id is that of a task, Expired if it was."""
    _check_not_expired(connection, task_id, now)
    if connection.execute(QUERIES["status_by_id"], (task_id.bytes,)).fetchone():
        raise id_taken(task_id)


def _check_not_expired(connection: apsw.Connection, task_id: UUID, now: int) -> None:
    tombstone = erasure.find_tombstone(connection, task_id, now)
    if tombstone is not None:
        raise Expired.of(task_id, tombstone.expired_at)


def _row(
    connection: apsw.Connection, task_id: UUID, now: int
) -> tuple[int, str, str | None, int | None, str | None, bytes | None, int | None, int | None]:
    """Return what decides about a change. Raises NotFound, Expired."""
    row = connection.execute(QUERIES["status_by_id"], (task_id.bytes,)).fetchone()
    if row is None or is_over(row[-1], now):
        _check_not_expired(connection, task_id, now)
        raise NotFound(f"there is no task {task_id}")
    return row  # type: ignore[no-any-return]


def _task(connection: apsw.Connection, task_id: UUID, now: int) -> Task:
    task = reads.find(connection, task_id, now)
    assert task is not None
    return task
