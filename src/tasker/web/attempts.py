"""The attempts of a task as its page shows them: phases for the waterfall, and rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from tasker.model import Attempt, Ending, Status, Task, TaskProblem
from tasker.web.charts import Try

MOST_SHOWN = 20
"""Latest attempts that the page shows: a task that is postponed again and again has thousands."""
ENDINGS: Mapping[Ending | None, tuple[str, str]] = {
    None: ("running", "runs"),
    "succeeded": ("completed", "completed"),
    "failed": ("failed", "failed"),
    "timed_out": ("failed", "timed out"),
    "crashed": ("failed", "crashed"),
    "snoozed": ("warn", "postponed"),
    "parked": ("parked", "waited"),
    "cancelled": ("cancelled", "cancelled"),
    "interrupted": ("warn", "interrupted"),
    "released": ("warn", "given back"),
}
"""The class and the word for each ending of an attempt; None: it runs."""
_USE_UP_A_TRY: frozenset[Ending | None] = frozenset({"succeeded", "failed", "timed_out"})
_BACK_OFF: frozenset[Ending | None] = frozenset({"failed", "timed_out", "crashed", "snoozed"})
_PARKED = ("sleeping", "waiting_for_children", "input_required")
"""Reasons of a task that is parked."""


class Row(NamedTuple):
    """An attempt in the table. memory: in bytes."""

    number: int
    started_at: datetime
    status: str
    ending: str
    waited: timedelta
    ran: timedelta
    worker: str
    memory: int | None
    error: str


def tries_of(
    task: Task,
    attempts: Sequence[Attempt],
    ends: Mapping[int, datetime],
    now: datetime,
    parked: Mapping[int, str] = MappingProxyType({}),
) -> list[Try]:
    """Return the phases of a task's attempts, and of the next one if it waits.

    ends: until when attempts backed off, by their number, as far as that is known. parked: what the task did after
    parked ones, see `step_view.parked_words`.
    """
    found = []
    due_at: datetime | None = task.run_at or task.created_at
    for place, attempt in enumerate(attempts):
        later = attempts[place + 1].started_at if place + 1 < len(attempts) else None
        words = parked.get(attempt.attempt, "waited") if attempt.ending == "parked" else ""
        retry_at = _parked_until(task, later, now) if words else _retry_at(task, attempt, later, ends)
        colour = ENDINGS[attempt.ending][0]
        if due_at is not None and due_at > attempt.started_at:  # the clock was set, or the time is not exact
            due_at = attempt.started_at
        found.append(Try(attempt.attempt, due_at, attempt.started_at, attempt.finished_at, retry_at, colour, words))
        due_at = retry_at or attempt.finished_at
    waits = task.status is Status.PENDING and task.reason not in _PARKED and due_at is not None and due_at <= now
    if found and waits:
        found.append(Try(task.attempt + 1, due_at, None, None, None, "pending"))
    return found


def _parked_until(task: Task, later: datetime | None, now: datetime) -> datetime:
    """Return until when a task was parked after an attempt, as far as is known. later: the next attempt's start."""
    if later is not None:
        return later
    woken = task.next_attempt_at or task.run_at
    if task.status is Status.PENDING:
        return now if task.reason in _PARKED or woken is None else min(woken, now)
    return task.finished_at or now


def _retry_at(task: Task, attempt: Attempt, later: datetime | None, ends: Mapping[int, datetime]) -> datetime | None:
    """Return until when an attempt backed off; None if it did not. later: the start of the next attempt."""
    if attempt.ending not in _BACK_OFF or attempt.finished_at is None:
        return None
    if later is None:
        return task.next_attempt_at if task.status is Status.PENDING else None
    known = ends.get(attempt.attempt)
    return later if known is None else min(known, later)


def rows_of(attempts: Sequence[Attempt], tries: Sequence[Try], now: datetime) -> list[Row]:
    """Return the rows of the table."""
    by_number = {one.number: one for one in tries}
    return [
        Row(
            attempt.attempt,
            attempt.started_at,
            ENDINGS[attempt.ending][0],
            by_number[attempt.attempt].parked or ENDINGS[attempt.ending][1],
            by_number[attempt.attempt].waited(now),
            by_number[attempt.attempt].ran(now),
            attempt.worker,
            attempt.peak_memory,
            "" if attempt.error is None else say_error(attempt.error),
        )
        for attempt in attempts
    ]


def say_error(error: TaskProblem) -> str:
    """Return what went wrong: the exception, or else the detail of the problem."""
    if error.exception is None:
        return error.detail
    name = error.exception.class_.removeprefix("builtins.")
    return f"{name}: {error.exception.message}" if error.exception.message else name


def used_tries(attempts: Sequence[Attempt]) -> int:
    """Return how many tries the attempts have used up."""
    return sum(attempt.ending in _USE_UP_A_TRY for attempt in attempts)


def run_time(attempts: Sequence[Attempt], now: datetime) -> timedelta:
    """Return how long the attempts ran, all in all."""
    return sum(
        (max((attempt.finished_at or now) - attempt.started_at, timedelta(0)) for attempt in attempts), timedelta(0)
    )
