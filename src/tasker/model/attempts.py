"""Attempts: the lease on a running task, what a worker reports, how an attempt ends."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from msgspec import Struct

from tasker.model.events import NewEvent
from tasker.model.steps import NewStep, Wait
from tasker.model.tasks import Policy, Progress, Reason, Status, TaskProblem

Ending = Literal[
    "succeeded", "failed", "timed_out", "crashed", "snoozed", "parked", "cancelled", "interrupted", "released"
]


class Attempt(Struct, frozen=True, kw_only=True):
    """One claim of a task by a worker: where, when, and how it ended (`ending` is None while it runs).

    peak_memory: largest number of bytes that its process held, without that process's own children; None for an
    `async def` function, which shares the worker's process, and for an attempt whose process crashed.
    """

    attempt: int
    worker: str
    started_at: datetime
    finished_at: datetime | None = None
    ending: Ending | None = None
    error: TaskProblem | None = None
    peak_memory: int | None = None


class Lease(Struct, frozen=True):
    """The right to write for one attempt: every write is fenced by this pair."""

    task_id: UUID
    attempt: int


class Claim(Struct, frozen=True):
    """A task handed to a worker, with what is needed to run it and to decide what follows.

    tries: number of attempts that used up a try; crashes: of attempts whose child process died; interruptions: of the
    last attempts in a row that ended with the service; all without this attempt. usage: that of earlier attempts (JSON
    text). secrets: the secret params; a worker fills them in. has_steps: whether steps may be stored for it.
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
    has_steps: bool = False

    @property
    def lease(self) -> Lease:
        """The lease of this attempt."""
        return Lease(self.task_id, self.attempt)


class Transition(Struct, frozen=True, kw_only=True):
    """The changes of a task at the end of an attempt; `lifecycle.decide` makes them, except for `peak_memory`.

    type, owner, queue, started_at: of the attempt, under which usage and statistics are counted. wait: what a parked
    task waits for; if any of it is there already, the task is due at once.
    """

    status: Status
    ending: Ending
    at: datetime
    type: str
    owner: str
    queue: str
    started_at: datetime
    tries: int
    crashes: int
    interruptions: int
    reason: Reason | None = None
    run_at: datetime | None = None
    result: bytes | None = None
    error: TaskProblem | None = None
    peak_memory: int | None = None
    wait: Wait | None = None


class Report(Struct, frozen=True, kw_only=True):
    """What an attempt reports since its last report: events and steps in order, and the newest progress and usage.

    A step whose key is stored already changes nothing.
    """

    events: tuple[NewEvent, ...] = ()
    steps: tuple[NewStep, ...] = ()
    progress: Progress | None = None
    usage: bytes | None = None
