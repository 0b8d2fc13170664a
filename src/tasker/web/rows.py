"""Tasks as the rows of a table: what each says in one line, and why it waits."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from tasker.model import Status, Task
from tasker.web import texts, times

_WORDS = {
    "retrying": ("retry", "retrying"),
    "scheduled": ("scheduled", "scheduled"),
    "snoozed": ("scheduled", "snoozed"),
    "dependencies": ("pending", "waits"),
    "paused": ("pause", "pending"),
    "sleeping": ("scheduled", "sleeps"),
    "waiting_for_children": ("parked", "waits"),
    "input_required": ("ask", "asks"),
}
_WAITS = {
    "queued": "next in its queue",
    "dependencies": "waits for the tasks that it depends on",
    "budget_exhausted": "the budget of the day is used up",
    "paused": "queue paused",
    "rate_limited": "rate of the queue used up",
    "concurrency_limited": "all slots of the queue busy",
    "restart": "waits for the restart of the service",
}
_UNTIL = {"scheduled": "starts", "retrying": "retry", "snoozed": "goes on", "sleeping": "sleeps, goes on"}
_PARKED = frozenset({"sleeping", "waiting_for_children", "input_required"})
DETAILED = frozenset({"waiting_for_children", "input_required"})
"""Reasons whose details only a task that is read by itself has."""


class Row(NamedTuple):
    """A task in a table. icon, word: of its status. progress: in percent, None without."""

    id: str
    short: str
    type: str
    queue: str
    status: str
    icon: str
    word: str
    params: str
    result: str
    error: str
    note: str
    progress: int | None
    tries: str
    took: str
    at: datetime


def row_of(task: Task, now: datetime) -> Row:
    """Return a task as a row. The task is one that `Waiting.with_reasons` returned."""
    status = task.status.value
    icon, word = _WORDS.get(str(task.reason), (status, status)) if task.status is Status.PENDING else (status, status)
    task_id = str(task.task_id)
    return Row(
        id=task_id,
        short=task_id[-12:],
        type=task.type,
        queue=task.queue,
        status=status,
        icon=icon,
        word=word,
        params=texts.json_line(task.params),
        result=texts.json_line(task.result) if task.status is Status.COMPLETED else "",
        error=error_of(task) if task.status is Status.FAILED else "",
        note=_note(task, now),
        progress=_percent(task),
        tries=_tries(task),
        took=took(task, now),
        at=task.created_at,
    )


def error_of(task: Task) -> str:
    """Return why a task failed, in one line."""
    error = task.error
    if error is None:
        return ""
    if error.exception is None:
        return texts.line(error.detail or error.title)
    name = error.exception.class_.rpartition(".")[2]
    return texts.line(f"{name}: {error.exception.message}" if error.exception.message else name)


def took(task: Task, now: datetime) -> str:
    """Return how long the last attempt ran, or has been running."""
    if task.started_at is None or task.status is Status.PENDING:
        return ""
    return times.duration((task.finished_at or now) - task.started_at)


def _tries(task: Task) -> str:
    """Return the attempts, and how many there may be: "3/3", "7" once none is left to give."""
    if task.status is Status.RUNNING:  # its try is one of those that are left
        return f"{task.attempt}/{task.attempt + max(task.tries_left, 1) - 1}"
    if task.reason in _PARKED:  # its attempts used up no try
        return str(task.attempt)
    if task.status is Status.PENDING:
        return f"{task.attempt}/{task.attempt + task.tries_left}"
    return str(task.attempt) if task.attempt else ""


def _note(task: Task, now: datetime) -> str:
    """Return why a pending task waits, how far a running one is, or by whom a task was stopped."""
    if task.status is Status.RUNNING:
        if task.cancel_requested_at is not None:
            return "asked to stop"
        return "" if task.progress is None else texts.line(task.progress.message or _amount(task), 120)
    if task.status is not Status.PENDING:
        return ""
    reason = str(task.reason)
    due = task.next_attempt_at or task.run_at
    if reason in _UNTIL:
        begins = _UNTIL[reason] + ("" if due is None else f" {times.ago(due, now)}" if due > now else " now")
        return f"{begins}, after {error_of(task)}" if task.error is not None else begins
    return _say_parked(task) if reason in DETAILED else _WAITS.get(reason, "")


def _say_parked(task: Task) -> str:
    """Return what a task waits for that its children or a person will bring."""
    if task.reason == "input_required":
        return (
            "waits for a person" if task.input is None else texts.line(f"waits for a person: {task.input.message}", 160)
        )
    counts = task.children
    if counts is None:
        return "waits for its children"
    left = counts.pending + counts.running
    total = left + counts.completed + counts.failed + counts.cancelled
    return f"waits for {times.number(left)} of {times.number(total)} {'child' if total == 1 else 'children'}"


def _amount(task: Task) -> str:
    progress = task.progress
    if progress is None or progress.current is None or progress.total is None:
        return ""
    return f"{times.number(progress.current)} of {times.number(progress.total)}"


def _percent(task: Task) -> int | None:
    if task.status is not Status.RUNNING or task.progress is None or task.progress.fraction is None:
        return None
    return round(100 * min(1.0, max(0.0, task.progress.fraction)))
