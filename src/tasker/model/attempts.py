"""Attempts: a lease on a running task, what a worker reports, and how an attempt ends."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from msgspec import Struct

from tasker.model.events import NewEvent
from tasker.model.tasks import Policy, Progress, Reason, Status, TaskProblem

Ending = Literal["succeeded", "failed", "timed_out", "crashed", "snoozed", "cancelled", "interrupted", "released"]


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


class Report(Struct, frozen=True, kw_only=True):
    """What an attempt has said since its last report: events in order, and the newest progress and usage."""

    events: tuple[NewEvent, ...] = ()
    progress: Progress | None = None
    usage: bytes | None = None
