"""The values that Tasker is about: frozen, typed, free of I/O. On the wire they are encoded by msgspec."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import Raw, Struct, structs

from tasker.errors import RequestError
from tasker.model.webhooks import Webhook, WebhookRef


class Status(StrEnum):
    """What a task is doing; the last three are terminal."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self not in _OPEN


_OPEN = frozenset({Status.PENDING, Status.RUNNING})

type_name_pattern = r"^[A-Za-z_][A-Za-z0-9_.-]{0,99}$"
queue_name_pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$"

Reason = Literal[
    "queued", "scheduled", "retrying", "snoozed", "dependencies", "budget_exhausted", "paused", "rate_limited",
    "concurrency_limited", "restart",
]  # fmt: skip
OnConflict = Literal["return", "reject", "replace"]
OnCrash = Literal["retry", "fail"]
Retention = timedelta | Literal["forever"]
"""How long a task is kept after its end."""
MAX_RETENTION = timedelta(days=3653)
Ending = Literal["succeeded", "failed", "timed_out", "crashed", "snoozed", "cancelled", "interrupted", "released"]


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """When a failed attempt is tried again: exponential backoff with full jitter.

    The delay before try n+1 is uniform in [0, min(max, initial * factor ** (n-1))] when `jitter`, else the upper end.
    """

    max_attempts: int = 1
    initial: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    max: timedelta = timedelta(minutes=10)
    jitter: bool = True


class Policy(Struct, frozen=True, kw_only=True):
    """How the attempts of one task are run; settled at submission from the type's defaults and the request."""

    retry: RetryPolicy = RetryPolicy()
    timeout: timedelta | None = None
    on_crash: OnCrash = "retry"


class ExceptionInfo(Struct, frozen=True, kw_only=True):
    """The exception behind a failure: `class` is its qualified name."""

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
    """How far an attempt has come, in its own words. `fraction` is between 0 and 1."""

    fraction: float | None = None
    current: float | None = None
    total: float | None = None
    message: str | None = None


class Task(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One submission, as a client sees it (API.md, "Task"). `params` and `result` are JSON text, kept as it came.

    What has a default here is left out on the wire where nothing was asked for. waiting_for, queue_position (1: next;
    1,001 or more are told as 1,002) and estimated_start_at are told of a pending task that is read by itself.
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
    replay_of: UUID | None = None
    schedule_id: UUID | None = None
    scheduled_for: datetime | None = None
    webhook: WebhookRef | None = None
    traceparent: str | None = None


class Attempt(Struct, frozen=True, kw_only=True):
    """One claim of a task by a worker: when, where and how it ended (`ending` is None while it runs).

    `peak_memory`: bytes that its process has held at most, without those that it started itself; None for an
    `async def` function, which shares the worker's, and for an attempt whose process crashed.
    """

    attempt: int
    worker: str
    started_at: datetime
    finished_at: datetime | None = None
    ending: Ending | None = None
    error: TaskProblem | None = None
    peak_memory: int | None = None


class Extra(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What belongs to a submission and no query asks for.

    scheduled_for: the tick of its schedule that it is for. delayed: its `run_at` is the end of a `delay`, a length of
    time that no clock which is set makes shorter or longer.
    """

    depends_on: tuple[UUID, ...] = ()
    replay_of: UUID | None = None
    schedule_id: UUID | None = None
    scheduled_for: datetime | None = None
    webhook: WebhookRef | None = None
    traceparent: str | None = None
    delayed: bool = False

    def shown(self) -> dict[str, Any]:
        """Return what a Task tells of it, by name."""
        fields = structs.asdict(self)
        del fields["delayed"]
        return fields


class Idempotency(Struct, frozen=True, kw_only=True):
    """A client's key for one submission: `fingerprint` tells equal requests, `reply` is what an equal one is told."""

    key: str
    fingerprint: bytes
    reply: bytes
    expires_at: datetime


class Draft(Struct, frozen=True, kw_only=True):
    """A validated submission on its way to the engine. `params` and `metadata` are JSON text.

    `run_at` is None for a task that may start at once. `policy` and `max_attempts` are what the row keeps of the
    settled defaults: `policy` is the JSON text of a Policy, encoded once for each type. `is_chosen`: the task's id is
    the client's choice, and may be there already; such a draft has an idempotency key. `owner` is "" where no keys are
    used. `retention`: how long it is kept after its end, None for ever. `weight`: what it costs of its queue's rate.
    `webhook`: who is told of this task alone. `secrets`: what stands as a mask in the params (hiding.py).

    unique_key: of one open task of its owner and type at a time; on_conflict: what becomes of this draft then.
    refusal: why it is not stored, if no earlier task answers for it. join_refusal: why none may answer for it.
    cache_key: an open task with this key, or one that has completed within `cache_for`, answers for this draft.
    """

    task_id: UUID
    type: str
    params: bytes
    queue: str
    priority: int
    created_at: datetime
    policy: bytes
    max_attempts: int
    run_at: datetime | None = None
    tags: tuple[str, ...] = ()
    metadata: bytes = b"{}"
    idempotency: Idempotency | None = None
    is_chosen: bool = False
    owner: str = ""
    deadline: datetime | None = None
    retention: timedelta | None = None
    unique_key: str | None = None
    concurrency_key: str | None = None
    weight: int = 1
    cache_key: bytes | None = None
    extra: Extra | None = None
    webhook: Webhook | None = None
    secrets: bytes | None = None
    on_conflict: OnConflict = "return"
    refusal: RequestError | None = None
    join_refusal: RequestError | None = None
    cache_for: timedelta = timedelta(0)

    @property
    def depends_on(self) -> tuple[UUID, ...]:
        return () if self.extra is None else self.extra.depends_on

    @property
    def is_delayed(self) -> bool:
        """Whether its `run_at` is the end of a delay, and no moment that was asked for."""
        return self.extra is not None and self.extra.delayed


class Receipt(Struct, frozen=True):
    """What became of a draft: stored; or its idempotency key was known, with an equal or another request.

    joined: another task answers for it, by its unique or its cache key. refused: `refusal` says why, nothing is stored.
    """

    task_id: UUID
    outcome: Literal["stored", "replayed", "mismatched", "joined", "refused"]
    reply: bytes | None = None
    refusal: RequestError | None = None


class Lease(Struct, frozen=True):
    """The right to one attempt: the pair that fences every write of it."""

    task_id: UUID
    attempt: int


class Claim(Struct, frozen=True, kw_only=True):
    """A task handed to a worker, with what is needed to run it and to decide what follows.

    `tries` counts attempts that used up a try, `crashes` those whose own child died, `interruptions` the ends of the
    whole service that cut it off, in a row; none of them includes the attempt claimed here. `usage` is what earlier
    attempts used up (JSON text). `secrets`: what of the params is shown nowhere; a worker fills it in.
    """

    task_id: UUID
    attempt: int
    type: str
    params: bytes
    queue: str
    priority: int
    policy: Policy
    tries: int
    crashes: int
    interruptions: int
    started_at: datetime
    worker: str
    owner: str = ""
    usage: bytes = b"{}"
    secrets: bytes | None = None

    @property
    def lease(self) -> Lease:
        return Lease(self.task_id, self.attempt)


class Transition(Struct, frozen=True, kw_only=True):
    """What completing an attempt changes in the task; made by `lifecycle.decide`, but for its peak of memory.

    `type`, `owner` and `started_at` are those of the attempt: what it used up is counted by them.
    """

    status: Status
    ending: Ending
    at: datetime
    type: str
    owner: str
    started_at: datetime
    tries: int
    crashes: int
    interruptions: int
    reason: Reason | None = None
    run_at: datetime | None = None
    result: bytes | None = None
    error: TaskProblem | None = None
    peak_memory: int | None = None


class NewEvent(Struct, frozen=True, kw_only=True):
    """Something a running attempt says; `data` is a JSON object's text."""

    type: Literal["progress", "output", "log"]
    time: datetime
    data: bytes


class Event(Struct, frozen=True, kw_only=True):
    """An immutable record of what happened to a task; `sequence` counts from 1 within the task.

    type: `created`, `started`, `progress`, `output`, `log`, `retrying`, `completed`, `failed`, `cancelled`.
    """

    sequence: int
    task_id: UUID
    attempt: int
    type: str
    time: datetime
    data: Raw


class Report(Struct, frozen=True, kw_only=True):
    """What an attempt has said since its last report: events in order, and the newest progress and usage."""

    events: tuple[NewEvent, ...] = ()
    progress: Progress | None = None
    usage: bytes | None = None


class Change(Struct, frozen=True):
    """News from the engine: this task now has this status; for wake-ups, never a source of truth.

    spoke: its attempt has said something, and nothing else has changed.
    """

    task_id: UUID
    status: Status
    cancel_requested: bool = False
    spoke: bool = False


class TaskFilter(Struct, frozen=True, kw_only=True):
    """Which tasks a list shows; every given field must hold."""

    status: tuple[Status, ...] = ()
    type: str | None = None
    queue: str | None = None
    tag: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    owner: str | None = None


class Tombstone(Struct, frozen=True, kw_only=True):
    """What is left of a task that has expired."""

    task_id: UUID
    owner: str
    expired_at: datetime


class Page(Struct, frozen=True, kw_only=True):
    """A slice of a list, newest first; `next_cursor` is opaque, None at the end."""

    items: list[Task]
    next_cursor: str | None = None


class LineStats(Struct, frozen=True, kw_only=True):
    """The open tasks of one queue and type at this moment.

    `pending` are due, `scheduled` wait for a moment; `oldest_due_at` is when the longest-waiting due task became due.
    """

    queue: str
    type: str
    pending: int = 0
    scheduled: int = 0
    running: int = 0
    oldest_due_at: datetime | None = None


class WorkerInfo(Struct, frozen=True, kw_only=True):
    """What a worker says of itself. `queues` is None for every queue; version has the build; level: release.LEVEL."""

    worker_id: str
    host: str
    pid: int
    version: str
    started_at: datetime
    queues: tuple[str, ...] | None
    types: tuple[str, ...]
    slots: int
    processes: int
    heartbeat_every: timedelta = timedelta(0)
    draining: bool = False
    level: int = 0


class RunningAttempt(Struct, frozen=True, kw_only=True):
    """An attempt that a worker runs."""

    task_id: UUID
    attempt: int
    type: str
    queue: str
    started_at: datetime
    owner: str = ""


class WorkerState(Struct, frozen=True, kw_only=True):
    """A worker as the engine knows it: what it last said, when, and what it runs, oldest first."""

    info: WorkerInfo
    heartbeat_at: datetime
    running: tuple[RunningAttempt, ...] = ()


_VERSION_AND_VARIANT = 0x7000_8000_0000_0000_0000
_RANDOM_BITS = 0x0FFF_3FFF_FFFF_FFFF_FFFF


def new_task_id(now: datetime) -> UUID:
    """Return a UUIDv7 (RFC 9562): milliseconds of `now`, then 74 random bits."""
    random = int.from_bytes(os.urandom(10), "big") & _RANDOM_BITS
    value = int(now.timestamp() * 1000) << 80 | _VERSION_AND_VARIANT | random
    return msgspec.convert(value.to_bytes(16, "big"), UUID)  # a third of the time that UUID takes


JsonObject = dict[str, Any]
