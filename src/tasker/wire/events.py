"""Events: what happens to tasks."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from msgspec import Struct, field

from tasker.model import TaskProblem
from tasker.wire.shapes import Always, Moment, Sometimes
from tasker.wire.tasks import Task


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened to a task; `type` says which of the fields after `attempt` it has.

    type: `created`, `started`, `progress`, `output`, `log`, `retrying`, `completed`, `failed` or `cancelled`; of steps
    `step_started`, `step_completed`, `step_failed`, `input_required`, `input_given`, `parked` or `resumed`. `output`
    has `chunk`; `progress` its numbers and message; `log` level, message and fields; `started` the worker; `retrying`
    how the attempt ended and the seconds until the next may start; the last event has the Task as it ended. Events of
    steps have `name` and `key`; `step_completed` the seconds that it `took`, `step_failed` the number of its `try` and
    the error; `input_required` the message and when it expires, `input_given` whose key gave the answer (`by`);
    `parked` the reason, and `until` when it waits at most; `resumed` how many `steps` it remembers. `cursor` is the
    event's place in the stream of all tasks.
    """

    task_id: UUID
    sequence: int
    type: str
    time: Moment
    attempt: int
    cursor: Sometimes[str] | None = None
    chunk: Sometimes[str] = ""
    fraction: Sometimes[float | None] = None
    current: Sometimes[float | None] = None
    total: Sometimes[float | None] = None
    message: Sometimes[str | None] = None
    level: Sometimes[str] | None = None
    fields: Sometimes[dict[str, Any]] = {}
    worker: Sometimes[str | None] = None
    ending: Sometimes[str | None] = None
    reason: Sometimes[str | None] = None
    delay: Sometimes[float] | None = None
    error: Sometimes[TaskProblem | None] = None
    name: Sometimes[str | None] = None
    key: Sometimes[str | None] = None
    kind: Sometimes[str | None] = None
    took: Sometimes[float | None] = None
    try_: Sometimes[int | None] = field(default=None, name="try")
    by: Sometimes[str | None] = None
    expires_at: Sometimes[Moment | None] = None
    until: Sometimes[Moment | None] = None
    steps: Sometimes[int | None] = None
    task: Sometimes[Task | None] = None


class LogEntry(Struct, frozen=True, kw_only=True):
    """A record of a task's log."""

    sequence: int
    attempt: int
    time: Moment
    level: str
    message: str
    fields: dict[str, Any]


class LogPage(Struct, frozen=True, kw_only=True):
    """A part of a task's log, oldest first. `before`: for the part before it; null at the begin of the log."""

    items: list[LogEntry]
    before: Always[int | None] = None


class Reset(Struct, frozen=True, kw_only=True, tag="reset", tag_field="type"):
    """Events are missing here: they are no longer kept. The stream continues with the oldest that are."""

    cursor: str
    detail: str
