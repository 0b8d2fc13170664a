"""Events of a task, and notifications of committed changes."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple, get_args
from uuid import UUID

from msgspec import Raw, Struct

from tasker.model.tasks import Status

LogLevel = Literal["debug", "info", "warning", "error", "critical"]
LOG_LEVELS: tuple[LogLevel, ...] = get_args(LogLevel)
"""In order of weight."""


EVENT_TYPES = (
    "created",
    "started",
    "progress",
    "output",
    "log",
    "step_started",
    "step_completed",
    "step_failed",
    "input_required",
    "input_given",
    "parked",
    "resumed",
    "retrying",
    "completed",
    "failed",
    "cancelled",
)
"""All types of events; receivers of webhooks get them as `task.completed` and so on."""
GROUP_ENDED = "group.ended"
"""The event of a group whose last open task has ended; stored with its prefix, as it is no task's."""
WEBHOOK_EVENTS = (*EVENT_TYPES, GROUP_ENDED)


class NewEvent(Struct, frozen=True, kw_only=True):
    """An event that a running attempt reports. `data`: the text of a JSON object."""

    type: Literal[
        "progress", "output", "log", "resumed", "step_started", "step_completed", "step_failed", "input_required"
    ]
    time: datetime
    data: bytes


class Event(Struct, frozen=True, kw_only=True):
    """An immutable record of what happened to a task; `sequence` counts from 1 within the task.

    type: `created`, `started`, `progress`, `output`, `log`, `retrying`, `completed`, `failed`, `cancelled`; of steps:
    `step_started`, `step_completed`, `step_failed`, `parked`, `resumed`, `input_required`, `input_given`.
    """

    sequence: int
    task_id: UUID
    attempt: int
    type: str
    time: datetime
    data: Raw


class LogPage(NamedTuple):
    """A part of a task's log, oldest event first. before: the sequence to go on before; None if there is nothing."""

    events: list[Event]
    before: int | None


class Change(Struct, frozen=True):
    """A notification from the engine: this task now has this status. For wake-ups, never a source of truth.

    spoke: only a report of its attempt was stored; the status is the same as before.
    """

    task_id: UUID
    status: Status
    cancel_requested: bool = False
    spoke: bool = False
