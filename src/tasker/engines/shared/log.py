"""The log of a task: which events it has, and under which numbers.

What every task goes through (created, started, its end) costs no write: it is read off the task's own row. Rows are
kept for what an attempt says, and for attempts that another one follows. Numbers count from 1 within a task; only the
current attempt, or whoever holds the task's row, adds to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import structs

from tasker.model import Status, Transition

_encode = msgspec.json.Encoder().encode


class Entry(NamedTuple):
    """An event as it is kept; `time` is in the engine's own form, `data` the JSON text of an object."""

    sequence: int
    attempt: int
    type: str
    time: Any
    data: bytes


class Head(NamedTuple):
    """What a task's row tells of its log.

    before: the number of the last event before the latest attempt. kept: the largest number that has a row, or None.
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
    """Return what the row tells of the latest attempt: its start, and the task's end."""
    entries = []
    if head.started_at is not None:
        started = _encode({"worker": head.worker})
        entries.append(Entry(head.before + 1, head.attempt, "started", head.started_at, started))
    if Status(head.status).is_terminal:
        entries.append(Entry(head.last + 1, head.attempt, head.status, head.finished_at, b"{}"))
    return entries


def merge(head: Head, kept: Iterable[Entry], after: int, limit: int) -> list[Entry]:
    """Return the first events behind `after`, from the row and from those that are kept, in order."""
    told = [Entry(1, 0, "created", head.created_at, b"{}"), *latest(head)]
    by_number = {entry.sequence: entry for entry in told if entry.sequence > after}
    by_number |= {entry.sequence: entry for entry in kept}
    return [by_number[number] for number in sorted(by_number)][:limit]


def followed(head: Head, change: Transition, time: Any) -> list[Entry]:
    """Return what must be kept of an attempt that another one follows; the last one's number is the new `before`."""
    error = None if change.error is None else structs.replace(change.error, traceback=None)
    delay = 0.0 if change.run_at is None else (change.run_at - change.at).total_seconds()
    why = {"ending": change.ending, "reason": change.reason, "delay": delay, "error": error}
    return [*latest(head), Entry(head.last + 1, head.attempt, "retrying", time, _encode(why))]


def reopened(head: Head, time: Any) -> list[Entry]:
    """Return what must be kept of a task that had ended and is run again; as `followed`."""
    ended = latest(head)
    why = {"ending": None, "reason": "queued", "delay": 0.0, "error": None}
    return [*ended, Entry(ended[-1].sequence + 1, head.attempt, "retrying", time, _encode(why))]


def numbered(head: Head, said: Sequence[tuple[str, Any, bytes]]) -> list[Entry]:
    """Return what the current attempt says (type, time, data), under the next numbers."""
    return [Entry(head.last + place, head.attempt, *words) for place, words in enumerate(said, start=1)]
