"""Tasks as clients see them, their policies, and pages and filters of tasks."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Raw, Struct, structs

from tasker.model.pages import PageOf
from tasker.model.webhooks import WebhookRef


class Status(StrEnum):
    """What a task is doing; the last three are terminal."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the task has ended."""
        return self not in _OPEN


_OPEN = frozenset({Status.PENDING, Status.RUNNING})

type_name_pattern = r"^[A-Za-z_][A-Za-z0-9_.-]{0,99}$"

queue_name_pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$"

group_name_pattern = queue_name_pattern

Reason = Literal[
    "queued",
    "scheduled",
    "retrying",
    "snoozed",
    "dependencies",
    "budget_exhausted",
    "paused",
    "rate_limited",
    "concurrency_limited",
    "restart",
    "sleeping",
    "waiting_for_children",
    "input_required",
]

OnConflict = Literal["return", "reject", "replace"]

OnCrash = Literal["retry", "fail"]

Retention = timedelta | Literal["forever"]
"""How long a task is kept after its end."""

MAX_RETENTION = timedelta(days=3653)


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """When to retry after a failed attempt: exponential backoff with full jitter.

    The delay before try n+1 is uniform in [0, min(max, initial * factor ** (n-1))] when `jitter`, else the upper end.
    """

    max_attempts: int = 1
    initial: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    max: timedelta = timedelta(minutes=10)
    jitter: bool = True


class Policy(Struct, frozen=True, kw_only=True):
    """How to run the attempts of one task; settled at submission from the type's defaults and the request."""

    retry: RetryPolicy = RetryPolicy()
    timeout: timedelta | None = None
    on_crash: OnCrash = "retry"


class ExceptionInfo(Struct, frozen=True, kw_only=True):
    """The exception behind a failure. `class`: its qualified name."""

    class_: str = msgspec.field(name="class")
    message: str


class TaskProblem(Struct, frozen=True, kw_only=True):
    """Why an attempt failed: an RFC 9457 problem object, stored with the task."""

    type: str
    title: str
    detail: str
    retryable: bool = False
    attempt: int = 0
    exception: ExceptionInfo | None = None
    traceback: str | None = None


class Progress(Struct, frozen=True, kw_only=True):
    """The progress that an attempt reports. `fraction` is between 0 and 1."""

    fraction: float | None = None
    current: float | None = None
    total: float | None = None
    message: str | None = None


class Asked(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The question that a task waits with, as a client sees it (Task.input)."""

    name: str
    message: str
    schema: Raw
    asked_at: datetime
    expires_at: datetime | None = None


class ChildCounts(Struct, frozen=True, kw_only=True):
    """The children of a task by status; those that are held count as pending."""

    pending: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0


class AfterGroup(Struct, frozen=True):
    """A dependency on a group: the task waits until no task of `group` is open.

    when: `completed`: it fails if one of them failed or was cancelled; `ended`: it starts in any case.
    """

    group: str
    when: Literal["completed", "ended"] = "completed"


class Task(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One submission, as a client sees it (API.md, "Task"). `params` and `result` are JSON text, kept as it came.

    Fields with a default here are left out on the wire if they have it. waiting_for, queue_position (1: next; 1,002
    means that or more) and estimated_start_at are set only for a pending task that is read by itself, `children` and
    `input` (the oldest question without an answer) for any task that is. In a list, params
    and results of more than PREVIEW_BYTES are null, and the previews have the text that they begin with.
    """

    task_id: UUID
    type: str
    params: Raw
    status: Status
    reason: Reason | None
    queue: str
    priority: int
    result: Raw | None
    error: TaskProblem | None
    progress: Progress | None
    attempt: int
    tries_left: int
    created_at: datetime
    run_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    next_attempt_at: datetime | None
    expires_at: datetime | None
    cancel_requested_at: datetime | None
    usage: Raw
    tags: list[str]
    metadata: Raw
    waiting_for: str | None = None
    queue_position: int | None = None
    estimated_start_at: datetime | None = None
    owner: str | None = None
    deadline: datetime | None = None
    unique_key: str | None = None
    concurrency_key: str | None = None
    depends_on: tuple[UUID, ...] = ()
    depends_on_group: AfterGroup | None = None
    group: str | None = None
    replay_of: UUID | None = None
    schedule_id: UUID | None = None
    scheduled_for: datetime | None = None
    webhook: WebhookRef | None = None
    traceparent: str | None = None
    parent_id: UUID | None = None
    root_id: UUID | None = None
    children: ChildCounts | None = None
    input: Asked | None = None
    params_preview: str | None = None
    result_preview: str | None = None


PREVIEW_BYTES = 400


class Extra(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Fields of a submission that no query uses.

    scheduled_for: the tick of the schedule that it is for. delayed: its `run_at` is the end of a `delay`, a duration
    that does not change when the clock is set. parent_id, root_id: of a child, the task that started it, and the one at
    the top.
    """

    depends_on: tuple[UUID, ...] = ()
    depends_on_group: AfterGroup | None = None
    group: str | None = None
    replay_of: UUID | None = None
    schedule_id: UUID | None = None
    scheduled_for: datetime | None = None
    webhook: WebhookRef | None = None
    traceparent: str | None = None
    parent_id: UUID | None = None
    root_id: UUID | None = None
    delayed: bool = False

    def shown(self) -> dict[str, Any]:
        """Return the fields that a Task shows, by name."""
        fields = structs.asdict(self)
        del fields["delayed"]
        return fields


class TaskFilter(Struct, frozen=True, kw_only=True):
    """Which tasks a list shows; every given field must match, and of several values one.

    schedule_id: the schedule that submitted them. ended_before: they were also submitted before that. text: occurs in
    the params or the error; see `looks.TEXT_BYTES`. error: the id of their failure group. bulk: the bulk
    action that cancelled or retried them. parent: the task that started them. group: the name of their group.
    """

    status: tuple[Status, ...] = ()
    types: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    tag: str | None = None
    schedule_id: UUID | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    ended_after: datetime | None = None
    ended_before: datetime | None = None
    text: str | None = None
    error: str | None = None
    owner: str | None = None
    bulk: UUID | None = None
    parent: UUID | None = None
    group: str | None = None


class TaskCount(NamedTuple):
    """How many tasks match a filter; at least so many, if the count is not exact."""

    number: int
    is_exact: bool


class Tombstone(Struct, frozen=True, kw_only=True):
    """What is kept of an expired task."""

    task_id: UUID
    owner: str
    expired_at: datetime


class Page(PageOf[Task], frozen=True, kw_only=True):
    """A part of a list of tasks; it may be short, or empty, before the end.

    searched_back_to: the creation of the task that the search for more ended at; None if the page ended otherwise.
    """

    searched_back_to: datetime | None = None


class PartitionStats(Struct, frozen=True, kw_only=True):
    """The open tasks of one queue partition (a queue and a type) now.

    pending: due tasks. scheduled: tasks that wait for a time. oldest_due_at: when the longest-waiting due task became
    due.
    """

    queue: str
    type: str
    pending: int = 0
    scheduled: int = 0
    running: int = 0
    oldest_due_at: datetime | None = None


_VERSION_AND_VARIANT = 0x7000_8000_0000_0000_0000

_RANDOM_BITS = 0x0FFF_3FFF_FFFF_FFFF_FFFF


def new_task_id(now: datetime) -> UUID:
    """Return a UUIDv7 (RFC 9562): milliseconds of `now`, then 74 random bits."""
    return make_task_id(now, os.urandom(10))


def make_task_id(at: datetime, rest: bytes) -> UUID:
    """Return a UUIDv7: milliseconds of `at`, then 74 bits of the 10 bytes `rest`."""
    value = int(at.timestamp() * 1000) << 80 | _VERSION_AND_VARIANT | int.from_bytes(rest, "big") & _RANDOM_BITS
    return msgspec.convert(value.to_bytes(16, "big"), UUID)  # takes a third of the time of UUID(bytes=...)


JsonObject = dict[str, Any]
