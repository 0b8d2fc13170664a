"""Convert rows to values and back. sql.py defines the order of the columns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import apsw
import msgspec
from msgspec import Raw

from tasker.clock import MICROSECOND, from_micros, to_micros
from tasker.engines.shared.log import Entry
from tasker.engines.shared.values import (
    CLAIM_FIELDS,
    NEVER,
    NULL,
    decode_policy,
    decode_problem,
    decode_progress,
    encode,
    read_extra,
)
from tasker.engines.sqlite.sql import QUERIES
from tasker.model import Attempt, Claim, Draft, Event, Reason, Status, Task

Row = tuple[Any, ...]
PARKED = 1 << 60
"""The bit of `due_at` that marks a parked task, which waits for a free slot of its concurrency key."""

_NEVER = to_micros(NEVER)
_tags = msgspec.json.Decoder(list[str])
_NO_EXTRA: dict[str, Any] = {}
_POLICY = CLAIM_FIELDS.index("policy")
_STARTED_AT = CLAIM_FIELDS.index("started_at")


def task_id_of(blob: bytes) -> UUID:
    """Return the UUID of its 16 bytes, in a fifth of the time that UUID(bytes=...) takes."""
    return msgspec.convert(blob, UUID)


def optional_micros(moment: datetime | None) -> int | None:
    """Return microseconds, or None for None."""
    return None if moment is None else to_micros(moment)


def is_over(expires_at: int | None, now: int) -> bool:
    """Return whether a task has expired."""
    return expires_at is not None and expires_at <= now


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


def _next_attempt(due_at: int) -> datetime | None:
    """Return when an attempt may start; None if that depends on others alone."""
    return None if due_at >= _NEVER else from_micros(due_at)


def tags_of(text: str) -> tuple[str, ...]:
    """Return the tags in the column `tags`."""
    return tuple(_tags.decode(text)) if text != "[]" else ()


def task_of(row: Row, now: int) -> Task:
    """Return the Task of a row of TASK_COLUMNS, as it is at `now` (microseconds). Params of null are null in JSON."""
    _, task_id, type_, params, status, reason, queue, priority, result, error, progress, *columns = row
    attempt, tries, max_attempts, created_at, run_at, due_at, started_at, finished_at, *columns = columns
    cancel_requested_at, usage, tags, metadata, owner, deadline, expires_at, *columns = columns
    unique_key, concurrency_key, extra = columns
    pending = status == "pending"
    return Task(
        task_id=task_id_of(task_id),
        type=type_,
        params=Raw(NULL if params is None else params),
        status=Status(status),
        reason=_reason(reason, due_at, now) if pending else None,
        queue=queue,
        priority=priority,
        result=None if result is None else Raw(result),
        error=None if error is None else decode_problem(error),
        progress=None if progress is None else decode_progress(progress),
        attempt=attempt,
        tries_left=max(0, max_attempts - tries),
        created_at=from_micros(created_at),
        run_at=_moment(run_at),
        started_at=_moment(started_at),
        finished_at=_moment(finished_at),
        next_attempt_at=_next_attempt(due_at & ~PARKED) if pending and attempt else None,
        cancel_requested_at=_moment(cancel_requested_at),
        usage=Raw(usage),
        tags=_tags.decode(tags),
        metadata=Raw(metadata),
        owner=owner or None,
        deadline=_moment(deadline),
        expires_at=_moment(expires_at),
        unique_key=unique_key,
        concurrency_key=concurrency_key,
        **(read_extra(extra) if extra else _NO_EXTRA),
    )


def _reason(stored: Reason, due_at: int, now: int) -> Reason:
    return stored if due_at > now else "queued"


def claim_of(row: Row) -> Claim:
    """Return the Claim of a running attempt, from a row of CLAIM_COLUMNS."""
    columns = [*row[:-1], None, bool(row[-1])]
    columns[0] = task_id_of(columns[0])
    columns[_POLICY] = decode_policy(columns[_POLICY])
    columns[_STARTED_AT] = from_micros(columns[_STARTED_AT])
    return Claim(*columns)


def first_claim(draft: Draft, worker: str, now: datetime) -> Claim:
    """Return the Claim of a task whose first attempt begins as it is stored."""
    return Claim(
        task_id=draft.task_id,
        attempt=1,
        type=draft.type,
        params=draft.params,
        queue=draft.queue,
        priority=draft.priority,
        policy=decode_policy(draft.policy),
        tries=0,
        crashes=0,
        interruptions=0,
        started_at=now,
        worker=worker,
        owner=draft.owner,
    )


def attempt_of(row: Row) -> Attempt:
    """Return the Attempt of a row of the query `attempts`."""
    attempt, worker, started_at, finished_at, ending, error, peak_memory = row
    return Attempt(
        attempt=attempt,
        worker=worker,
        started_at=from_micros(started_at),
        finished_at=_moment(finished_at),
        ending=ending,
        error=None if error is None else decode_problem(error),
        peak_memory=peak_memory,
    )


def keep_entries(connection: apsw.Connection, seq: int, entries: Sequence[Entry]) -> int:
    """Add entries to a task's log; return the number of the last one."""
    connection.executemany(QUERIES["insert_event"], [(seq, *entry) for entry in entries])
    return entries[-1].sequence


def event_of(entry: Entry, task_id: UUID) -> Event:
    """Return an entry of a task's log as an Event."""
    sequence, attempt, type_, time, data = entry
    return Event(
        sequence=sequence, task_id=task_id, attempt=attempt, type=type_, time=from_micros(time), data=Raw(data)
    )


def draft_of(row: Row) -> Draft:
    """Return a Draft like the task in a row of the query `draft_by_id`."""
    task_id, type_, params, queue, priority, created_at, policy, max_attempts, *columns = row
    tags, metadata, owner, retention, concurrency_key, weight = columns
    return Draft(
        task_id=task_id_of(task_id),
        type=type_,
        params=params,
        queue=queue,
        priority=priority,
        created_at=from_micros(created_at),
        policy=policy,
        max_attempts=max_attempts,
        tags=tuple(_tags.decode(tags)),
        metadata=metadata,
        owner=owner,
        retention=None if retention is None else retention * MICROSECOND,
        concurrency_key=concurrency_key,
        weight=weight or 1,
    )


def draft_row(draft: Draft, now: int) -> Row:
    """Return the parameters of the query `insert_task`. now: earlier than the draft if the clock was set back since."""
    created_at = to_micros(draft.created_at)
    run_at = None if draft.run_at is None else to_micros(draft.run_at)
    if created_at > now:
        run_at = run_at + now - created_at if run_at is not None and draft.is_delayed else run_at
        created_at = now
    later = run_at is not None and run_at > created_at
    return (
        draft.task_id.bytes,
        draft.type,
        draft.queue,
        "scheduled" if later else "queued",
        draft.priority,
        created_at,
        run_at,
        run_at if later else created_at,
        draft.max_attempts,
        draft.policy,
        encode(draft.tags).decode() if draft.tags else "[]",
        draft.metadata,
        draft.params,
        draft.owner,
        optional_micros(draft.deadline),
        None if draft.retention is None else draft.retention // MICROSECOND,
        draft.unique_key,
        draft.concurrency_key,
        None if draft.weight == 1 else draft.weight,
        draft.cache_key,
        None if draft.extra is None else encode(draft.extra),
    )
