"""Convert rows to values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Raw

from tasker.engines.shared.log import Entry, Head
from tasker.engines.shared.values import (
    CLAIM_FIELDS,
    NEVER,
    NULL,
    decode_policy,
    decode_problem,
    decode_progress,
    preview_of,
    read_extra,
)
from tasker.model import Attempt, Claim, Event, Status, Task

Row = Mapping[str, Any]
_TASK_WIDTH = 30
"""Number of TASK_COLUMNS."""
_NO_EXTRA: dict[str, Any] = {}
_ATTEMPT, _POLICY = CLAIM_FIELDS.index("attempt"), CLAIM_FIELDS.index("policy")


def listed_task_of(row: Row) -> Task:
    """Return the Task of a row of LIST_COLUMNS."""
    *columns, params_preview, result_preview = row.values()
    return _task_of(columns, params_preview, result_preview)


def task_of(row: Row) -> Task:
    """Return the Task of a row that begins with TASK_COLUMNS."""
    return _task_of(tuple(row.values())[:_TASK_WIDTH])


def _task_of(columns: Iterable[Any], params_preview: bytes | None = None, result_preview: bytes | None = None) -> Task:
    (_, task_id, type_, params, status, reason, queue, priority, result, error, progress, attempt, tries, max_attempts,
     created_at, run_at, due_at, started_at, finished_at, cancel_requested_at, usage, tags, metadata, owner,
     deadline, expires_at, unique_key, concurrency_key, extra, is_later) = columns  # fmt: skip
    pending = status == "pending"
    return Task(
        task_id=task_id,
        type=type_,
        params=Raw(NULL if params is None else params),
        status=Status(status),
        reason=(reason if is_later or reason == "concurrency_limited" else "queued") if pending else None,
        queue=queue,
        priority=priority,
        result=None if result is None else Raw(result),
        error=None if error is None else decode_problem(error),
        progress=None if progress is None else decode_progress(progress),
        attempt=attempt,
        tries_left=max(0, max_attempts - tries),
        created_at=created_at,
        run_at=run_at,
        started_at=started_at,
        finished_at=finished_at,
        next_attempt_at=due_at if pending and attempt and due_at != NEVER else None,
        cancel_requested_at=cancel_requested_at,
        usage=Raw(usage),
        tags=tags,
        metadata=Raw(metadata),
        owner=owner or None,
        deadline=deadline,
        expires_at=expires_at,
        unique_key=unique_key,
        concurrency_key=concurrency_key,
        params_preview=preview_of(params_preview),
        result_preview=preview_of(result_preview),
        **(read_extra(extra) if extra else _NO_EXTRA),
    )


def claim_of(row: Row) -> Claim:
    """Return the Claim of a running attempt, of a row of CLAIM_COLUMNS."""
    *columns, has_dependants, _, _ = row.values()
    columns[_POLICY] = decode_policy(columns[_POLICY])
    columns += (None, has_dependants or columns[_ATTEMPT] > 1)  # its secrets, and has_steps
    return Claim(*columns)


def attempt_of(row: Row) -> Attempt:
    """Return the Attempt of a row of the query `attempts`, whose columns are its fields."""
    error = row["error"]
    return Attempt(**(dict(row) | {"error": None if error is None else decode_problem(error)}))


def head_of(row: Row) -> Head:
    """Return the Head of a row that ends with HEAD_COLUMNS."""
    return Head(*list(row.values())[-len(Head._fields) :])


def entry_of(row: Row) -> Entry:
    """Return the Entry of a row of the query `events`."""
    return Entry(*row.values())


def event_of(entry: Entry, task_id: Any) -> Event:
    """Return the Event of an entry of a task's log."""
    sequence, attempt, type_, time, data = entry
    return Event(sequence=sequence, task_id=task_id, attempt=attempt, type=type_, time=time, data=Raw(data))
