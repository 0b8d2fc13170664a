"""The log of a task: its events and their numbers. Pure.

The events that every task has (created, started, its end) cost no write: they are derived from the task's own row. Rows
are stored for the reports of an attempt, and for all attempts but the latest. Numbers count from 1 within a task; only
the current attempt, or a transaction that has locked the task's row, adds events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import structs

from tasker.model import Status, Transition

_encode = msgspec.json.Encoder().encode


class Entry(NamedTuple):
    """An event as it is stored. `time` has the engine's own form; `data` is the JSON text of an object."""

    sequence: int
    attempt: int
    type: str
    time: Any
    data: bytes


class Head(NamedTuple):
    """The fields of a task's row from which its log is derived.

    before: the number of the last event before the latest attempt. kept: the largest stored number, or None.
    """

    status: str
    before: int
    attempt: int
    worker: str | None
    created_at: Any
    started_at: Any
    finished_at: Any
    kept: int | None

    @property
    def last(self) -> int:
        """The number of the last event before the task's end."""
        return max(self.kept or 0, self.before + (self.started_at is not None))


def latest(head: Head) -> list[Entry]:
    """Return the events that the row implies for the latest attempt: its start, and the task's end."""
    entries = []
    if head.started_at is not None:
        started = _encode({"worker": head.worker})
        entries.append(Entry(head.before + 1, head.attempt, "started", head.started_at, started))
    if Status(head.status).is_terminal:
        entries.append(Entry(head.last + 1, head.attempt, head.status, head.finished_at, b"{}"))
    return entries


def merge(head: Head, kept: Iterable[Entry], after: int, limit: int) -> list[Entry]:
    """Return the first `limit` events after number `after`: stored ones and those that the row implies, in order."""
    implied = [Entry(1, 0, "created", head.created_at, b"{}"), *latest(head)]
    by_number = {entry.sequence: entry for entry in implied if entry.sequence > after}
    by_number |= {entry.sequence: entry for entry in kept}
    return [by_number[number] for number in sorted(by_number)][:limit]


def followed(head: Head, change: Transition, time: Any) -> list[Entry]:
    """Return the entries to store for an attempt that another one follows; the last number is the new `before`."""
    if change.wait is not None:
        parked = {"reason": change.wait.reason, "until": change.run_at}
        return [*latest(head), Entry(head.last + 1, head.attempt, "parked", time, _encode(parked))]
    error = None if change.error is None else structs.replace(change.error, traceback=None)
    delay = 0.0 if change.run_at is None else (change.run_at - change.at).total_seconds()
    why = {"ending": change.ending, "reason": change.reason, "delay": delay, "error": error}
    return [*latest(head), Entry(head.last + 1, head.attempt, "retrying", time, _encode(why))]


def reopened(head: Head, time: Any) -> list[Entry]:
    """Return the entries to store for an ended task that is run again, as `followed` does."""
    ended = latest(head)
    why = {"ending": None, "reason": "queued", "delay": 0.0, "error": None}
    return [*ended, Entry(ended[-1].sequence + 1, head.attempt, "retrying", time, _encode(why))]


def numbered(head: Head, reported: Sequence[tuple[str, Any, bytes]]) -> list[Entry]:
    """Return the reported events (type, time, data) of the current attempt as entries with the next numbers."""
    return [Entry(head.last + place, head.attempt, *event) for place, event in enumerate(reported, start=1)]
