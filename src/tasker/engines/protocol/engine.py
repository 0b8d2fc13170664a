"""The engine itself: the steps of a task's life."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from tasker.engines.protocol.archive import ArchiveStore
from tasker.engines.protocol.audit import AuditStore
from tasker.engines.protocol.control import Control
from tasker.engines.protocol.journal import JournalStore
from tasker.engines.protocol.keys import KeyStore
from tasker.engines.protocol.queues import QueueStore
from tasker.engines.protocol.schedules import ScheduleStore
from tasker.engines.protocol.secrets import SecretStore
from tasker.engines.protocol.tombstones import TombstoneStore
from tasker.engines.protocol.usage import UsageStore
from tasker.engines.protocol.webhooks import WebhookStore
from tasker.engines.protocol.workers import WorkerStore
from tasker.model import (
    Attempt,
    Change,
    Claim,
    Draft,
    Event,
    Lease,
    Page,
    PartitionStats,
    Receipt,
    Report,
    Task,
    TaskFilter,
    Transition,
)

Listener = Callable[[Sequence[Change]], None]
"""Hears of committed changes. An empty batch means that news may have been lost: look again at whatever matters."""


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


class Engine(Protocol):
    """Stores tasks and coordinates workers, in this process or in many. See the package's rules.

    Each engine has a function that opens it, as an async context manager. Attempts cut off by the end of an earlier
    process then count as expired, at once where a store is not shared.
    """

    workers: WorkerStore
    keys: KeyStore
    audit: AuditStore
    secrets: SecretStore
    queues: QueueStore
    archive: ArchiveStore
    control: Control
    schedules: ScheduleStore
    usage: UsageStore
    webhooks: WebhookStore
    tombstones: TombstoneStore
    journal: JournalStore
    is_shared: bool
    """Whether other processes may work on the store at the same time: the end of one then ends no lease but its own."""

    async def close(self) -> None:
        """Finish what was taken on, then let go. Idempotent."""

    async def submit(self, drafts: Sequence[Draft]) -> list[Receipt]:
        """Store all drafts in one commit and return a receipt for each, in order, when they are durable.

        A draft with an idempotency key that is kept and not expired is not stored: `replayed` with the kept reply if
        the fingerprint is the same, `mismatched` otherwise; `task_id` is then that of the first submission. A draft
        whose cache key or unique key another task has is not stored but `joined` to that one, or `refused`, or
        takes its place (Draft.on_conflict). One that depends on tasks waits until these have completed, fails when one
        of them fails or is cancelled, and is `refused` if one is not there. A reply that is kept for a joined task is
        empty: it is answered with the task as it is.
        Raises Conflict, and stores none of them, if a chosen id is that of a task without this key; Expired if there
        was such a task.
        """

    async def find(self, task_id: UUID) -> Task | None:
        """Return the task, or None.

        What has expired is there no more for any method, from that moment on, also before it is erased.
        """

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

        Raises NotFound, Expired, Conflict (terminal).
        """

    async def retry(self, task_id: UUID) -> Task:
        """Make a failed or cancelled task pending, due at once, with all its tries; attempt numbers go on.

        It waits for what it depends on, if that runs again. Raises NotFound, Expired, Conflict (pending, running,
        completed; an open task has its unique key; one that it depends on has not completed and is not about to).
        """

    async def delete(self, task_id: UUID) -> None:
        """Erase a terminal task and all that belongs to it. Raises NotFound, Expired, Conflict (open)."""

    async def find_expired(self, *, limit: int) -> list[Claim]:
        """Return running attempts whose lease has expired; the reaper completes each as interrupted."""

    async def fail_overdue(self, *, limit: int) -> int:
        """End pending tasks whose deadline has passed as failed, at most `limit`; return how many.

        A claim starts none of them, whenever this is called.
        """

    async def prune(self, *, limit: int) -> int:
        """Erase some of what is past its time (tasks, keys, tombstones, the journal), at most `limit` rows of each.

        A step so small that it keeps nobody waiting; afterwards, or meanwhile, unused space is given back. Returns how
        much was done: 0 when nothing is left to do.
        """

    async def sweep(self, *, limit: int) -> int:
        """Put right what a crash or a person's hand has left inconsistent, at most `limit` rows; return how many."""

    async def stats(self, owner: str | None = None, *, queues: Collection[str] | None = None) -> list[PartitionStats]:
        """Return the open tasks by queue and type; of this owner and of these queues alone, if given."""

    async def check(self) -> None:
        """Prove that the store takes a durable write now. Raises Unavailable."""

    def watch(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` on the event loop with each batch of committed changes; return what ends that."""
