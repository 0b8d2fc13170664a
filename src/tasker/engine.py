"""The one seam: what keeps tasks and hands each of them to one worker at a time.

Every method is a step of a task's life. An engine stores and coordinates; it decides nothing (lifecycle.py does) and
validates nothing (service.py does). Rules that hold for every method:

- What a method has returned is durable: it survives kill -9 and a power cut.
- Writes of an attempt carry its lease and change nothing unless that attempt is the current one and still running.
- When the store cannot write (disk full, I/O error), `Unavailable` is raised and nothing has changed.
- Times are compared with the engine's clock, never with the caller's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from tasker.model import (
    Attempt,
    Change,
    Claim,
    Draft,
    Event,
    Lease,
    LineStats,
    Page,
    Receipt,
    Report,
    Task,
    TaskFilter,
    Transition,
    WorkerInfo,
    WorkerState,
)
from tasker.stored import StoredTask

Listener = Callable[[Sequence[Change]], None]
"""Hears of committed changes. An empty batch means that news may have been lost: look again at whatever matters."""

KEEP_WORKERS_FOR = timedelta(minutes=5)
"""How long a worker that says nothing more is still shown."""


class Heartbeat(NamedTuple):
    """What a worker learns when it extends its leases."""

    lost: set[Lease]
    cancelled: set[Lease]


class ClaimRequest(NamedTuple):
    """Which tasks a worker takes.

    queues: names, or None for every queue. types: the types it can run; others stay pending.
    limit: at most so many ordinary tasks. suspects: at most so many of the tasks that were running at
    `lifecycle.MAX_INTERRUPTIONS` or more ends of the service in a row.
    """

    worker: str
    types: Collection[str]
    limit: int
    lease_for: timedelta
    suspects: int = 0
    queues: Collection[str] | None = None


class WorkerBook(Protocol):
    """Which workers there are. For people and for noticing the dead: no lease depends on it."""

    async def announce(self, worker: WorkerInfo) -> None:
        """Note that the worker lives now, and what it says of itself: at its start and with each heartbeat."""

    async def withdraw(self, worker_id: str) -> None:
        """Forget a worker that has ended in good order. Idempotent."""

    async def find_all(self) -> list[WorkerState]:
        """Return the workers heard of within KEEP_WORKERS_FOR, in order of their start."""


class Archive(Protocol):
    """All that is stored, to carry it to another store."""

    def read(self, *, at_once: int, size: int) -> AsyncGenerator[list[StoredTask]]:
        """Yield every task with all that belongs to it, as they are at one moment, in order of submission.

        So many together: `at_once` at the most, and none behind the one with which they come to `size` characters.
        """

    async def put(self, tasks: Sequence[StoredTask]) -> int:
        """Store those that are not there yet, in order, in one commit; return how many.

        One that was running has an expired lease. Raises Conflict, and changes nothing, if a task is there with other
        content than it could have come to from the given one.
        """

    async def find_many(self, task_ids: Sequence[UUID]) -> list[StoredTask | None]:
        """Return each task with all that belongs to it, or None, in order."""


class Engine(Protocol):
    """Stores tasks and coordinates workers, in this process or in many. See the module's rules."""

    workers: WorkerBook
    archive: Archive
    is_shared: bool
    """Whether other processes may work on the store at the same time: the end of one then ends no lease but its own."""

    async def open(self) -> None:
        """Make ready: lock, migrate, recover. Attempts cut off by the end of an earlier process count as expired, at
        once where a store is not shared.

        Raises ConfigError when the store cannot be used, naming what to do.
        """

    async def close(self) -> None:
        """Finish what was taken on, then let go. Idempotent."""

    async def submit(self, drafts: Sequence[Draft]) -> list[Receipt]:
        """Store all drafts in one commit and return a receipt for each, in order, when they are durable.

        A draft with an idempotency key that is kept and not expired is not stored: `replayed` with the kept reply if
        the fingerprint is the same, `mismatched` otherwise; `task_id` is then that of the first submission.
        Raises Conflict, and stores none of them, if a chosen id is that of a task without this key.
        """

    async def find(self, task_id: UUID) -> Task | None:
        """Return the task, or None."""

    async def find_many(self, where: TaskFilter, *, limit: int, cursor: str | None = None) -> Page:
        """Return tasks, newest submission first. Raises Invalid for a cursor that no page gave out."""

    async def find_attempts(self, task_id: UUID) -> list[Attempt]:
        """Return the attempts of a task, oldest first, the current one included."""

    async def find_events(self, task_id: UUID, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return events of a task with a sequence above `after`, in order."""

    async def claim(self, request: ClaimRequest, *, wait_for: timedelta) -> list[Claim]:
        """Take due tasks: each becomes running with attempt + 1 and a lease, in one commit.

        Order: priority (larger first), then the time it became due, equal ones in any. Returns at once when there is
        one; else waits for the first, at most `wait_for`, and then returns [].
        """

    async def heartbeat(self, leases: Sequence[Lease], extend_by: timedelta) -> Heartbeat:
        """Extend the leases to now + extend_by; tell those no longer owned and those asked to cancel."""

    async def record(self, lease: Lease, report: Report) -> bool:
        """Store what a running attempt says. False, and no change, if `lease` is not the current one."""

    async def complete(self, lease: Lease, change: Transition, report: Report | None = None) -> bool:
        """End an attempt: store `report`, then the transition, in one commit.

        False, and no change, if `lease` is not the current one. If a cancel was requested and the transition would
        make the task pending again, it becomes cancelled instead.
        """

    async def cancel(self, task_id: UUID) -> Task:
        """Pending: cancelled at once. Running: mark the request (again: no change); its worker stops the attempt.

        Raises NotFound, Conflict (terminal).
        """

    async def retry(self, task_id: UUID) -> Task:
        """Make a failed or cancelled task pending, due at once, with all its tries; attempt numbers go on.

        Raises NotFound, Conflict (pending, running, completed).
        """

    async def delete(self, task_id: UUID) -> None:
        """Erase a terminal task, its attempts, events and idempotency key. Raises NotFound, Conflict (open)."""

    async def find_expired(self, *, limit: int) -> list[Claim]:
        """Return running attempts whose lease has expired; the reaper completes each as interrupted."""

    async def prune(self, *, limit: int) -> int:
        """Erase what is past its time (idempotency keys), at most `limit` rows; return how many."""

    async def sweep(self, *, limit: int) -> int:
        """Put right what a crash or a person's hand has left inconsistent, at most `limit` rows; return how many."""

    async def stats(self) -> list[LineStats]:
        """Return the open tasks by queue and type."""

    async def check(self) -> None:
        """Prove that the store takes a durable write now. Raises Unavailable."""

    def watch(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` on the event loop with each batch of committed changes; return what ends that."""
