"""Reads of tasks, attempts, events and counts: single rows on the event loop, others in the reader's threads."""

from __future__ import annotations

from uuid import UUID

import apsw
from msgspec import Raw, structs

from tasker.clock import from_micros
from tasker.engines.shared.log import Entry, Head, merge
from tasker.engines.shared.steps import asked_by
from tasker.engines.shared.tables import STEPS
from tasker.engines.sqlite.result_files import Results, is_reference, lost
from tasker.engines.sqlite.rows import (
    Row,
    attempt_of,
    claim_of,
    event_of,
    is_over,
    task_id_of,
    task_of,
)
from tasker.engines.sqlite.sql import EXPIRES_AT, QUERIES
from tasker.engines.sqlite.tables import table_of
from tasker.model import Attempt, Claim, Event, RunningAttempt, Task
from tasker.model.tasks import ChildCounts


def find(connection: apsw.Connection, task_id: UUID, now: int) -> Task | None:
    """Return the task, or None."""
    row = connection.execute(QUERIES["task_by_id"], (task_id.bytes,)).fetchone()
    if row is None or is_over(row[EXPIRES_AT], now):
        return None
    *columns, has_steps = row
    task = task_of(tuple(columns), now)
    return with_steps(connection, task, row[0], now) if has_steps else task


def with_steps(connection: apsw.Connection, task: Task, seq: int, now: int) -> Task:
    """Return a task with the numbers of its children, and the question that it asks."""
    counted: Row = connection.execute(QUERIES["child_counts"], (seq,)).fetchone() or (None,)
    asked: Row | None = connection.execute(QUERIES["asked_of"], {"seq": seq, "now": now}).fetchone()
    children = None
    if counted[0] is not None:
        stored, completed, failed, cancelled = counted
        running: int = connection.execute(QUERIES["running_children"], (seq,)).get
        pending = max(0, stored - completed - failed - cancelled - running)
        children = ChildCounts(
            pending=pending, running=running, completed=completed, failed=failed, cancelled=cancelled
        )
    question = None if asked is None else asked_by(table_of(STEPS).value(asked))
    return structs.replace(task, children=children, input=question)


def find_whole(connection: apsw.Connection, task_id: UUID, now: int, results: Results) -> Task | None:
    """Return the task, or None, with its result even if that has a file. Not for the event loop."""
    task = find(connection, task_id, now)
    return None if task is None else loaded(connection, task, now, results)


def loaded(connection: apsw.Connection, task: Task, now: int, results: Results) -> Task | None:
    """Return a task with its result, or without if the result's file is lost; None if the task was erased meanwhile."""
    if not is_reference(task.result):
        return task
    reference = bytes(task.result or b"")
    text = results.find(reference)
    if text is None:
        if find(connection, task.task_id, now) is None:
            return None
        lost(reference)
    return structs.replace(task, result=None if text is None else Raw(text))


def find_attempts(connection: apsw.Connection, task_id: UUID, now: int) -> list[Attempt]:
    """Return the attempts of a task, oldest first."""
    rows = connection.execute(QUERIES["attempts"], {"task_id": task_id.bytes, "now": now})
    return [attempt_of(row) for row in rows]


def find_events(connection: apsw.Connection, task_id: UUID, after: int, limit: int, now: int) -> list[Event]:
    """Return the events of a task with a sequence above `after`."""
    row = connection.execute(QUERIES["head_by_id"], (task_id.bytes,)).fetchone()
    if row is None or is_over(row[1], now):
        return []
    seq, _, *head = row
    kept = [Entry(*entry) for entry in connection.execute(QUERIES["events"], (seq, after, limit))]
    return [event_of(entry, task_id) for entry in merge(Head(*head), kept, after, limit)]


def find_expired(connection: apsw.Connection, steady: int, limit: int) -> list[Claim]:
    """Return running attempts whose lease has ended by `steady`, in microseconds of the monotonic clock."""
    return [claim_of(row) for row in connection.execute(QUERIES["expired"], (steady, limit))]


def find_running(connection: apsw.Connection) -> dict[str, list[RunningAttempt]]:
    """Return the running attempts by worker, oldest first."""
    running: dict[str, list[RunningAttempt]] = {}
    for worker, task_id, attempt, type_, queue, started_at, owner in connection.execute(QUERIES["running_by_worker"]):
        running.setdefault(worker, []).append(
            RunningAttempt(
                task_id=task_id_of(task_id),
                attempt=attempt,
                type=type_,
                queue=queue,
                started_at=from_micros(started_at),
                owner=owner,
            )
        )
    return running
