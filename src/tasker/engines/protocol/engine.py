"""The engine itself: the steps of a task's life."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from tasker.engines.protocol.archive import ArchiveStore
from tasker.engines.protocol.audit import AuditStore
from tasker.engines.protocol.bulk import BulkStore
from tasker.engines.protocol.control import Control
from tasker.engines.protocol.failures import FailureStore
from tasker.engines.protocol.groups import GroupStore
from tasker.engines.protocol.inbox import InboxStore
from tasker.engines.protocol.journal import JournalStore
from tasker.engines.protocol.keys import KeyStore
from tasker.engines.protocol.lead import Lead
from tasker.engines.protocol.peers import Peers
from tasker.engines.protocol.queues import QueueStore
from tasker.engines.protocol.schedules import ScheduleStore
from tasker.engines.protocol.secrets import SecretStore
from tasker.engines.protocol.stats import StatsStore
from tasker.engines.protocol.steps import StepStore
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
    LogPage,
    Page,
    Receipt,
    Report,
    Task,
    TaskCount,
    TaskFilter,
    Transition,
)
from tasker.model.steps import Forget

Listener = Callable[[Sequence[Change]], None]
"""Called with committed changes. An empty batch means that some may have been lost: look at the store again."""


class Heartbeat(NamedTuple):
    """The answer to a heartbeat: leases that are no longer the worker's, and those whose task is to be cancelled."""

    lost: set[Lease]
    cancelled: set[Lease]


class ClaimRequest(NamedTuple):
    """Which tasks a worker takes.

    queues: names, or None for every queue. types: the types it can run; others stay pending.
    limit: the most ordinary tasks. suspects: the most suspects, which are tasks that were running at the last
    `lifecycle.MAX_INTERRUPTIONS` or more ends of the service.
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
    bulk: BulkStore
    schedules: ScheduleStore
    usage: UsageStore
    stats: StatsStore
    steps: StepStore
    failures: FailureStore
    groups: GroupStore
    webhooks: WebhookStore
    tombstones: TombstoneStore
    journal: JournalStore
    lead: Lead
    peers: Peers
    inbox: InboxStore | None
    """None where no other program can write to the store."""
    is_shared: bool
    """Whether other processes may work on the store at the same time: the end of one then ends only its own leases."""

    async def close(self) -> None:
        """Finish accepted work, then release the store. Idempotent."""

    async def submit(self, drafts: Sequence[Draft]) -> list[Receipt]:
        """Store all drafts in one commit; return a receipt for each, in order, when they are durable.

        A draft whose idempotency key is known and has not expired is not stored: its receipt is `replayed` with the
        kept reply if the fingerprint is the same, else `mismatched`; `task_id` is that of the first submission. A draft
        whose cache key or unique key another task has is not stored: it is `joined` to that task, `refused`, or
        replaces it (Draft.on_conflict). A draft that depends on tasks waits until these have completed, fails when one
        of them fails or is cancelled, and is `refused` if one does not exist. The reply that is kept for a joined task
        is empty: the answer is the task as it is at the time.
        Raises Conflict, and stores nothing, if a chosen id is that of a task without this key; Expired if there was
        such a task.
        """

    async def find(self, task_id: UUID) -> Task | None:
        """Return the task, or None.

        For every method, a task is gone from the moment it expires, even before it is erased.
        """

    async def find_many(self, where: TaskFilter, *, limit: int, cursor: str | None = None) -> Page:
        """Return tasks, newest submission first. Raises Invalid for a cursor that no page gave out.

        One call looks at a limited number of tasks. A page may so be short, or empty, and have a `next_cursor` to go on
        with; then it says how far back it has looked.
        """

    async def count(self, where: TaskFilter, *, at_most: int = 10_001) -> TaskCount:
        """Count tasks up to `at_most`, as far as one look of 50 ms gets (see `find_many`)."""

    async def find_attempts(self, task_id: UUID) -> list[Attempt]:
        """Return the attempts of a task, oldest first, the current one included."""

    async def find_events(self, task_id: UUID, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return events of a task with a sequence above `after`, in order."""

    async def find_log(
        self, task_id: UUID, *, levels: Sequence[str] | None = None, limit: int = 100, before: int | None = None
    ) -> LogPage:
        """Return the last `log` events of a task, of these levels, with a sequence below `before`.

        One call looks at a limited number of events, and returns a limited size: there may be fewer than `limit`.
        """

    async def claim(self, request: ClaimRequest, *, wait_for: timedelta) -> list[Claim]:
        """Take due tasks: each becomes running with attempt + 1 and a lease, in one commit.

        Order: priority (larger first), then the time a task became due; equal ones in any order. Returns at once if
        there is one; else waits up to `wait_for` for the first, then returns [].
        """

    async def heartbeat(self, leases: Sequence[Lease], extend_by: timedelta) -> Heartbeat:
        """Extend the leases to now + extend_by; return those that are lost and those whose task is to be cancelled."""

    async def record(self, lease: Lease, report: Report) -> bool:
        """Store a report of a running attempt, steps included, in one commit.

        False, and no change, if `lease` is not the current one.
        """

    def complete(self, lease: Lease, change: Transition, report: Report | None = None) -> Awaitable[bool]:
        """End an attempt: store `report`, then the transition, in one commit.

        False, and no change, if `lease` is not the current one. If a cancel was requested and the transition would
        make the task pending again, it becomes cancelled instead.
        """

    async def cancel(self, task_id: UUID) -> Task:
        """Cancel a pending task at once; mark a running one, whose worker then stops the attempt. Idempotent.

        Raises NotFound, Expired, Conflict (the task is terminal).
        """

    async def retry(self, task_id: UUID, forget: Forget | None = None) -> Task:
        """Make a failed or cancelled task pending, due at once, with all its tries again; attempt numbers go on.

        It waits for its dependencies if they are open again. It keeps its steps, but for those to `forget`, and its
        completed children; the others may run again. Raises NotFound, Expired, Conflict (it is pending, running or
        completed; an open task has its unique key; a dependency failed or is gone), Invalid (no step is so named).
        """

    async def delete(self, task_id: UUID) -> None:
        """Erase a terminal task and all that belongs to it, children included; open children are cancelled first.

        A task with children is gone at once, and erased in small steps by `prune`. Raises NotFound, Expired, Conflict
        (it is open, or the child of an open task).
        """

    async def find_expired(self, *, limit: int) -> list[Claim]:
        """Return running attempts whose lease has expired; the reaper completes each as interrupted."""

    async def fail_overdue(self, *, limit: int) -> int:
        """End pending tasks whose deadline has passed as failed, at most `limit`; return how many.

        Claims never start such tasks, even before this call.
        """

    async def prune(self, *, limit: int) -> int:
        """Erase expired tasks, keys, tombstones and journal entries, at most `limit` rows of each.

        One call is a small step, so that it delays no other work; it also releases unused space. Returns how much was
        done: 0 when nothing is left to do.
        """

    async def sweep(self, *, limit: int) -> int:
        """Repair what a crash or a manual change has left inconsistent, at most `limit` rows; return how many."""

    async def check(self) -> None:
        """Make a durable write, to prove that the store takes one now. Raises Unavailable."""

    def watch(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` on the event loop with each batch of committed changes; return a function that stops it.

        See `Peers.follow_task` for the changes of other processes.
        """
