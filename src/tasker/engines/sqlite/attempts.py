"""Writes of running attempts: heartbeats, reports and ends. Each is fenced by the attempt's lease."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from msgspec import structs

from tasker.clock import MICROSECOND, to_micros
from tasker.engines.protocol import Heartbeat
from tasker.engines.shared.journal import ended, logged
from tasker.engines.shared.log import Head, followed, numbered
from tasker.engines.shared.steps import TRIED
from tasker.engines.shared.values import NEVER, encode, encode_problem
from tasker.engines.sqlite import failures
from tasker.engines.sqlite.pending import Ended
from tasker.engines.sqlite.rows import Row, keep_entries
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.stored_steps import is_there, put_steps
from tasker.engines.sqlite.ties import end
from tasker.engines.sqlite.transaction import Transaction, day_of
from tasker.model import Change, Lease, Reason, Report, Status, Transition
from tasker.rules.lifecycle import MAX_INTERRUPTIONS

_NEVER = to_micros(NEVER)


class Held(NamedTuple):
    """A running attempt, and the fields of its row that its log needs."""

    task_id: UUID
    seq: int
    cancelled: bool
    type: str
    owner: str
    usage: bytes
    head: Head


def extend(tx: Transaction, leases: Sequence[Lease], expires_at: int) -> Heartbeat:
    """Extend the leases that are still current to `expires_at`, in microseconds of the monotonic clock."""
    beat = Heartbeat(set(), set())
    for lease in leases:
        row = tx.execute(QUERIES["extend_lease"], (expires_at, lease.task_id.bytes, lease.attempt)).fetchone()
        if row is None:
            beat.lost.add(lease)
        elif row[0] is not None:
            beat.cancelled.add(lease)
    return beat


def record(tx: Transaction, lease: Lease, report: Report) -> bool:
    """Store a report of a running attempt. False, and no change, if `lease` is not current."""
    held = find_running(tx, lease)
    if held is None:
        return False
    _store(tx, held, report, tx.now)
    tx.changes.append(Change(lease.task_id, Status.RUNNING, spoke=True))
    return True


def complete(tx: Transaction, lease: Lease, change: Transition, report: Report | None) -> bool:
    """End an attempt. False, and no change, if `lease` is not current."""
    if change.status is Status.PENDING or report is not None:
        held = find_running(tx, lease)
        if held is None:
            return False
        if report is not None:
            held = _store(tx, held, report, to_micros(change.at))
        if change.status is Status.PENDING and not held.cancelled:
            _requeue(tx, held, change)
            return True
        if change.status is Status.PENDING:
            change = structs.replace(change, status=Status.CANCELLED, run_at=None, reason=None)
    return _end(tx, lease, change)


def find_running(tx: Transaction, lease: Lease) -> Held | None:
    """Return the running attempt of a lease; None if the lease is not current."""
    row = tx.execute(QUERIES["running_attempt"], (lease.task_id.bytes, lease.attempt)).fetchone()
    if row is None:
        return None
    seq, cancel_requested_at, type_, owner, usage, *head = row
    return Held(lease.task_id, int(seq), cancel_requested_at is not None, type_, owner, usage, Head(*head))


def _store(tx: Transaction, held: Held, report: Report, now: int) -> Held:
    """Store a report; return the attempt with the updated fields."""
    if report.progress is not None:
        tx.execute(QUERIES["set_progress"], (encode(report.progress), held.seq))
    if report.usage is not None:
        tx.execute(QUERIES["set_usage"], (report.usage, held.seq))
        tx.tally.use((day_of(now), held.owner, held.type), held.usage, report.usage)
    if report.steps:
        put_steps(tx, held.seq, held.head.attempt, held.owner, report.steps)
    if not report.events:
        return held
    log = numbered(held.head, [(event.type, to_micros(event.time), event.data) for event in report.events])
    last = keep_entries(tx.connection, held.seq, log)
    tx.journal.append(logged(held.task_id, log))
    return held._replace(head=held.head._replace(kept=last))


def _requeue(tx: Transaction, held: Held, change: Transition) -> None:
    """Make the task pending again, for another attempt."""
    seq, error, at = held.seq, encode_problem(change.error), to_micros(change.at)
    reason, due_at = _next(tx, seq, change)
    tx.tally.end((day_of(at), held.owner, held.type), change)
    key = held.owner, held.type, change.queue
    tx.counts.again(key, _ran(change), waits=reason != "queued", is_retry=reason == "retrying")
    log = followed(held.head, change, at)
    last = keep_entries(tx.connection, seq, log)
    tx.journal.append(logged(held.task_id, log[-1:]))
    tx.execute(QUERIES["keep_attempt"], (at, change.ending, error, change.peak_memory, seq))
    row = (reason, due_at, change.tries, change.crashes, change.interruptions, error, last, seq)
    queue, type_, deadline, owner, key, has_dependants = tx.execute(QUERIES["requeue_task"], row).fetchone()  # type: ignore[misc]
    if has_dependants and change.ending in TRIED:
        tx.execute(QUERIES["children_may_run_again"], (seq,))
    tx.partitions.note_deadline(deadline)
    suspect = change.interruptions >= MAX_INTERRUPTIONS
    tx.partitions.joined(str(queue), str(type_), due_at, later=reason != "queued", suspect=suspect)
    tx.partitions.ended(tx.connection, tx.now, str(queue), str(owner), key)
    tx.changes.append(Change(held.task_id, Status.PENDING))


def _next(tx: Transaction, seq: int, change: Transition) -> tuple[Reason, int]:
    """Return why the task is pending from now on, and when it is due (microseconds)."""
    at = to_micros(change.at)
    due_at = at if change.run_at is None else tx.now + (change.run_at - change.at) // MICROSECOND
    reason = change.reason or "queued"
    if change.wait is None:
        return reason, due_at
    if is_there(tx, seq, change.wait, change.at):
        return "queued", at
    return reason, _NEVER if change.run_at is None else due_at


def _end(tx: Transaction, lease: Lease, change: Transition) -> bool:
    at = to_micros(change.at)
    values = (
        change.status,
        change.ending,
        at,
        change.tries,
        change.crashes,
        change.result,
        encode_problem(change.error),
        change.peak_memory,
        at,
        lease.task_id.bytes,
        lease.attempt,
    )
    is_lone = tx.partitions.are_unlimited and _end_lone(tx, values)
    row: Row | None = None if is_lone else tx.execute(QUERIES["end_attempt"], values).fetchone()
    if row is None and not is_lone:
        return False
    tx.tally.end((day_of(at), change.owner, change.type), change)
    tx.counts.ended((change.owner, change.type, change.queue), change.status, _ran(change))
    tx.journal.append(ended(lease.task_id, change.status, lease.attempt))
    tx.changes.append(Change(lease.task_id, change.status))
    if change.status is Status.FAILED and change.error is not None:
        failures.note(tx, lease.task_id, change.error)
    if row is not None:
        seq, has_dependants, queue, owner, key = row
        tx.partitions.ended(tx.connection, tx.now, queue, owner, key)
        if has_dependants:
            end(tx, Ended(seq, lease.task_id, change.status, change.error))
    return True


def _ran(change: Transition) -> int | None:
    """Return how long an attempt ran, in microseconds.

    None for an interrupted one, as nobody knows when it ended, and for a parked one, which is a part of a run.
    """
    return None if change.ending in ("interrupted", "parked") else (change.at - change.started_at) // MICROSECOND


def _end_lone(tx: Transaction, values: Row) -> bool:
    """End the attempt if no task depends on its task; return whether that was done."""
    tx.run(QUERIES["end_lone_attempt"], values)
    return tx.connection.changes() > 0
