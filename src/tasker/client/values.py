"""What the client sends and gets, without the sending."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from msgspec import Struct

from tasker.model import Attempt, Progress, Status, TaskProblem


class Task(Struct, frozen=True, kw_only=True):
    """A task as the service showed it (API.md, "Task"). `params` and `result` are plain Python values.

    With a key that lacks the scope `read` the service shows its id, its status and what the request itself said.
    """

    task_id: UUID
    type: str = ""
    status: Status
    params: Any = None
    reason: str | None = None
    waiting_for: str | None = None
    queue_position: int | None = None
    estimated_start_at: datetime | None = None
    queue: str = "default"
    priority: int = 0
    result: Any = None
    error: TaskProblem | None = None
    progress: Progress | None = None
    attempt: int = 0
    tries_left: int = 0
    created_at: datetime | None = None
    run_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    next_attempt_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    usage: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    schedule_id: UUID | None = None
    scheduled_for: datetime | None = None
    webhook: dict[str, Any] | None = None
    attempts: tuple[Attempt, ...] | None = None  # only where they were asked for

    @property
    def is_whole(self) -> bool:
        """Whether this is all there is to know of the task: with the scope `read`."""
        return self.created_at is not None


class Reset(Struct, frozen=True, kw_only=True, tag="reset", tag_field="type"):
    """Events are missing here, for the client was away for too long; what follows is the oldest that is kept."""

    cursor: str
    detail: str


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened to a task; which of the fields behind `attempt` it has depends on `type`.

    type: `created`, `started`, `progress`, `output`, `log`, `retrying`, `completed`, `failed`, `cancelled`.
    cursor: its place among the events of all tasks, in the stream of these.
    """

    task_id: UUID
    sequence: int
    type: str
    time: datetime
    attempt: int
    cursor: str | None = None
    chunk: str = ""
    fraction: float | None = None
    current: float | None = None
    total: float | None = None
    message: str | None = None
    level: str | None = None
    fields: dict[str, Any] = {}
    worker: str | None = None
    ending: str | None = None
    reason: str | None = None
    delay: float | None = None
    error: TaskProblem | None = None
    task: Task | None = None


class Page(Struct, frozen=True, kw_only=True):
    """A slice of a list of tasks."""

    items: list[Task]
    next_cursor: str | None = None


@dataclass(frozen=True, kw_only=True)
class SubmitOptions:
    """How a task is to be run; what is None is left to the type's defaults. Numbers for times are seconds.

    `retry` takes a number of attempts, or max_attempts, initial, factor, max and jitter. `idempotency_key` replaces the
    one that is made for each submission: give your own to have a submission made once even over restarts of your
    program. `webhook` takes url, events, secret and format.
    """

    queue: str | None = None
    priority: int | None = None
    delay: timedelta | float | None = None
    run_at: datetime | None = None
    timeout: timedelta | float | None = None
    retry: Mapping[str, Any] | int | None = None
    tags: Sequence[str] | None = None
    metadata: Mapping[str, Any] | None = None
    deadline: datetime | None = None
    unique_key: str | None = None
    on_conflict: Literal["return", "reject", "replace"] | None = None
    depends_on: Sequence[UUID] | None = None
    cache: timedelta | float | None = None
    webhook: Mapping[str, Any] | None = None
    concurrency_key: str | None = None
    weight: int | None = None
    idempotency_key: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the fields of the request's body that these options give."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "idempotency_key"}
        return {name: _plain(value) for name, value in given.items() if value is not None}


def as_timedelta(value: timedelta | float) -> timedelta:
    """Return a duration; numbers are seconds."""
    return value if isinstance(value, timedelta) else timedelta(seconds=value)


def _plain(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value
