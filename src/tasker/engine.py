"""The one seam: what keeps tasks and hands each of them to one worker at a time.

Every method is a step of a task's life. An engine stores and coordinates; it decides nothing (lifecycle.py does) and
validates nothing (service.py does). Rules that hold for every method:

- What a method has returned is durable: it survives kill -9 and a power cut.
- Writes of an attempt carry its lease and change nothing unless that attempt is the current one and still running.
- When the store cannot write (disk full, I/O error), `Unavailable` is raised and nothing has changed.
- Times are compared with the engine's clock, never with the caller's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
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
    Tombstone,
    Transition,
    WorkerInfo,
    WorkerState,
)
from tasker.model.audit import AuditPage, Deed
from tasker.model.control import Action, Chosen, Counted
from tasker.model.journal import JournalPage
from tasker.model.keys import Key
from tasker.model.queues import Place, QueueChange, QueueSettings, QueueState
from tasker.model.schedules import Due, Fired, Firing, Schedule, SchedulePage
from tasker.model.types import KnownType, PublishedType
from tasker.model.usage import Group, UsageFilter, UsageRow
from tasker.model.webhooks import (
    Delivery,
    DeliveryOutcome,
    DeliveryPage,
    DeliveryStatus,
    DueDelivery,
    Hearing,
    Turn,
    Webhook,
    WebhookPage,
)
from tasker.stored import StoredRecord, StoredTask

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


class WorkerBook(Protocol):
    """Which workers there are. For people and for noticing the dead: no lease depends on it."""

    async def announce(self, worker: WorkerInfo) -> None:
        """Note that the worker lives now, and what it says of itself: at its start and with each heartbeat."""

    async def withdraw(self, worker_id: str) -> None:
        """Forget a worker that has ended in good order. Idempotent."""

    async def find_all(self) -> list[WorkerState]:
        """Return the workers heard of within KEEP_WORKERS_FOR, in order of their start."""

    async def publish(self, types: Sequence[PublishedType]) -> None:
        """Store what a worker that starts tells of its types. Of two workers' words on one name the newest counts."""

    async def find_types(self) -> list[KnownType]:
        """Return the types of workers heard of within KEEP_TYPES_FOR, by name."""


class KeyBook(Protocol):
    """The keys of those who may ask."""

    async def version(self) -> int:
        """Return a number that is a larger one after every `add` and `revoke`, by whatever process."""

    async def add(self, key: Key, *, most: int | None = None) -> None:
        """Store a new key, and keep to KEEP_DEAD_KEYS. Raises Conflict (one has its id, `most` are good already)."""

    async def find_all(self) -> list[Key]:
        """Return every key, in order of creation, also the newest that are revoked or past their time (see `add`)."""

    async def revoke(self, key_id: str) -> Key | None:
        """Mark a key as revoked now, and return it; again: no change. None if there is none."""

    async def cursor_secret(self) -> bytes:
        """Return 64 bytes that were made at random with the store: by them its cursors are sealed."""

    async def note_uses(self, uses: Mapping[str, datetime]) -> None:
        """Remember when keys were last used, by their ids; never an earlier time than is known."""


class SecretBook(Protocol):
    """The secret params of tasks, stored with them (`Draft.secrets`), for as long as they may run."""

    async def find(self, task_id: UUID) -> bytes | None:
        """Return the secrets of a task, None if it has none, or they are erased."""

    async def erase(self, task_ids: Sequence[UUID]) -> None:
        """Erase the secrets of tasks. Idempotent."""

    async def find_ended(self, *, limit: int) -> list[UUID]:
        """Return tasks that have ended, or are erased, and whose secrets are still there, at most `limit`."""


class AuditBook(Protocol):
    """Who did what. Nothing is changed or erased but by `prune`; an outcome is added once."""

    async def begin(self, deed: Deed) -> int:
        """Note what somebody is about to do; return the number of the entry, larger than any before."""

    async def end(self, sequence: int, outcome: int, target: str = "") -> None:
        """Note how it ended, and what was made if the deed has no target; once that is known, no change."""

    async def find_many(self, *, limit: int, cursor: str | None = None) -> AuditPage:
        """Return entries, newest first. Raises Invalid for a cursor that no page gave out."""

    async def prune(self, *, keep: timedelta, limit: int) -> int:
        """Erase entries that were begun longer ago than `keep`, at most `limit`; return how many."""


class Tombstones(Protocol):
    """What is known of tasks that were erased: that they were, for as long again as they were to be kept."""

    async def find(self, task_id: UUID) -> Tombstone | None:
        """Return that of a task that has expired, erased or not yet; None for any other, and once it is forgotten."""


class Control(Protocol):
    """What one task was submitted with, and what is done to many at once."""

    async def find_draft(self, task_id: UUID) -> Draft | None:
        """Return what a task was submitted with, as far as it would be for another like it; None if it is not there.

        That is what it is to run, in which line, by which policy, and the client's notes; not its times, nor its keys.
        """

    async def count(self, where: TaskFilter) -> Counted:
        """Count the tasks of a filter."""

    async def choose(self, where: TaskFilter, *, limit: int, cursor: str | None) -> Chosen:
        """Return the first tasks of a filter behind a cursor, newest first."""

    async def act(self, action: Action, task_ids: Sequence[UUID]) -> int:
        """Cancel, retry or delete each of these as the engine's method does, together; return how many it was done to.

        Those that are gone, or have another status by now, are passed over.
        """


class QueueBook(Protocol):
    """What is set of queues. Every claim that begins after a change was made keeps to it, in every process."""

    async def find_all(self, names: Collection[str] | None = None) -> list[QueueState]:
        """Return the queues of which anything is set, by name; of these alone, if given."""

    async def find_names(self, *, after: str | None = None, limit: int) -> list[str]:
        """Return the first queues behind a name that hold open tasks or have settings, in the store's order."""

    async def find_open(self, owner: str) -> list[str]:
        """Return the queues in which this owner has open tasks, in any order; for "" not all that others use too."""

    async def find_place(self, task_id: UUID, owner: str | None = None) -> Place | None:
        """Return where in line a due task is, among this owner's if given; None for any that is not pending and due."""

    async def find_run_time(self, task_id: UUID) -> timedelta | None:
        """Return how long tasks of a task's type took that were submitted shortly before it; None if none has ended."""

    async def change(self, name: str, change: QueueChange, *, most: int | None = None) -> QueueSettings:
        """Set something of a queue, with tasks or not; return that. Raises Conflict (`most` others have settings)."""


class Archive(Protocol):
    """All that is stored, to carry it to another store."""

    def read(self, *, at_once: int, size: int) -> AsyncGenerator[list[StoredRecord] | list[StoredTask]]:
        """Yield every record, then every task with all that belongs to it, as they are at one moment; tasks in order
        of submission.

        So many together: `at_once` at the most, and none behind the one with which they come to `size` characters.
        """

    async def put(self, tasks: Sequence[StoredTask], *, rehearsal: bool = False) -> int:
        """Store those that are not there yet and were not erased here, in order, in one commit; return how many.

        One that was running has an expired lease. rehearsal: all of it is taken back. Raises, and changes nothing,
        Conflict if a task is there with other content than it could have come to from the given one, or another one has
        what only one may have; ArchiveError if a task cannot be stored as it is.
        """

    async def find_many(self, task_ids: Sequence[UUID]) -> list[StoredTask | None]:
        """Return each task with all that belongs to it, or None, in order."""

    async def find_erased(self, task_ids: Sequence[UUID]) -> set[UUID]:
        """Return those of which the store has a tombstone: they expired here, or were deleted."""

    async def put_records(self, records: Sequence[StoredRecord], *, rehearsal: bool = False) -> int:
        """Store those whose name is not there yet, in order, in one commit; return how many.

        What is there is left as it is, whatever it says. rehearsal: all of it is taken back. Raises ArchiveError for a
        record that is none of its kind, and Conflict for one that cannot be there together with another, which is
        named; nothing has changed then.
        """

    async def find_records(self, records: Sequence[StoredRecord]) -> list[StoredRecord | None]:
        """Return what is there under the name of each record, or None, in order."""


class ScheduleBook(Protocol):
    """The schedules. Their ticks are found by the store's own time, and a firing is one commit."""

    async def create(self, schedule: Schedule, *, most: int | None = None) -> None:
        """Store a new schedule. Raises Conflict (its owner has one of that name, or `most` already)."""

    async def find(self, schedule_id: UUID) -> Schedule | None:
        """Return the schedule, or None."""

    async def find_many(
        self, *, owner: str | None = None, name: str | None = None, limit: int, cursor: str | None = None
    ) -> SchedulePage:
        """Return schedules, newest first, of this owner and with this name if given. Raises Invalid (the cursor)."""

    async def update(self, schedule: Schedule) -> bool:
        """Store the next version of a schedule: False, and no change, unless the version before is the one there.

        Raises Conflict (its owner has another one of that name).
        """

    async def delete(self, schedule_id: UUID) -> None:
        """Erase a schedule; its tasks stay. Raises NotFound."""

    async def find_due(self, *, types: Collection[str], limit: int, skip: int = 0) -> Due:
        """Return schedules of these types that are due, those that wait for longest first, but for `skip` of them."""

    async def fire(self, firing: Firing) -> Fired | None:
        """Do what `timing.resolve` makes of a firing, and go on to the next tick, in one commit.

        None, and no change, unless the schedule there is the one that is given: somebody else has fired or changed it.
        A draft whose task is there already was submitted before, and one that is refused is left out.
        """

    async def trigger(self, schedule_id: UUID, draft: Draft) -> Receipt:
        """Submit a draft as a task of the schedule, beside its ticks. Raises NotFound, and what `submit` does."""


class UsageBook(Protocol):
    """What attempts used up, counted in the transactions that store it: `usage` as it grows, the rest at their ends.

    It outlives the tasks.
    """

    async def find_many(self, where: UsageFilter, *, group: Collection[Group], limit: int) -> list[UsageRow]:
        """Return the first sums by `group`, in order of day, owner and type."""

    async def spent_today(self, owner: str) -> int:
        """Return the nano-dollars that the owner's tasks have cost since midnight UTC."""


class WebhookBook(Protocol):
    """The webhooks, and what each has to be told: deliveries, which are tried by one process at a time."""

    async def create(self, webhook: Webhook, *, most: int) -> None:
        """Store a new webhook. Raises Conflict where its owner has `most` already."""

    async def find(self, webhook_id: UUID) -> Webhook | None:
        """Return the webhook, or None."""

    async def find_many(self, *, owner: str | None, limit: int, cursor: str | None = None) -> WebhookPage:
        """Return webhooks, newest first, but none of tasks; an owner's without those of all owners. Raises Invalid."""

    async def change(self, webhook_id: UUID, change: Callable[[Webhook], Webhook]) -> Webhook:
        """Store what `change` makes of the webhook as it is, and return that; it may run again. Raises NotFound."""

    async def delete(self, webhook_id: UUID) -> None:
        """Erase a webhook and its deliveries. Raises NotFound."""

    async def find_deliveries(
        self, webhook_id: UUID, *, status: DeliveryStatus | None, limit: int, cursor: str | None = None
    ) -> DeliveryPage:
        """Return deliveries of a webhook, newest first. Raises Invalid (the cursor)."""

    async def redeliver(self, webhook_id: UUID, delivery_id: UUID) -> Delivery:
        """Make a delivery due now, with all its tries. Raises NotFound."""

    async def turn(self, holder: str) -> Turn | None:
        """Return how far the journal has become deliveries, or None while another process goes on with it."""

    async def find_hearing(self, task_ids: Collection[UUID]) -> list[Hearing]:
        """Return every webhook but those that came with other tasks than these."""

    async def dispatch(self, found: Sequence[Delivery], *, after: str | None, to: str) -> bool:
        """Store deliveries, each event once for a webhook, and move on in the journal, in one commit.

        False, and no change, if it was moved on from `after` already. Those of webhooks that are erased are left out.
        """

    async def find_due(
        self, *, full: Collection[str], full_owners: Collection[str] = (), each: int, limit: int
    ) -> list[DueDelivery]:
        """Return deliveries whose time has come, at most `each` of a lane, none of a paused webhook.

        First comes the oldest of each owner's webhooks, then the second of each, and so on; of these the oldest first.
        None of a lane, or of a share of lanes (`share_of`), that is among those which are `full`, and none of an owner
        among `full_owners`.
        """

    async def take(self, due: Sequence[DueDelivery]) -> list[DueDelivery]:
        """Begin an attempt of each, for DELIVERY_LEASE; return, as they are now, those that nobody else has begun."""

    async def settle(
        self, delivery: Delivery, outcome: DeliveryOutcome, *, failing_before: datetime, too_long: str
    ) -> bool:
        """Store how an attempt went. False, and no change, if it is not the latest one of a delivery that is pending.

        A webhook that has failed since `failing_before` without a success is paused, and why is `too_long`.
        """

    async def drop(self, delivery: Delivery) -> None:
        """Erase a delivery about which there is nothing to tell any more."""

    async def prune(self, *, keep: timedelta, limit: int) -> int:
        """Erase deliveries that have ended, or waited in vain, for longer than `keep`; return how many."""


class Journal(Protocol):
    """The events of all tasks in one line: each event that a reader can find in a task's log stands in it once.

    An event of a task never stands before an earlier one of that task, and nothing is ever put before what was read:
    who reads on from page to page misses nothing and meets nothing twice, over ends of the process, and through any
    process of a shared store. Events of tasks that were erased or have expired are left out. Cursors are opaque.
    """

    async def tail(self) -> str:
        """Return the cursor of what is stored from now on."""

    async def read(self, after: str | None = None, *, limit: int = 100) -> JournalPage:
        """Return the entries behind a cursor, at most `limit`, fewer where they are large; None: from the oldest.

        It does not wait for any: listen to `watch`, and look again now and then where the store is shared. A page
        without entries may have a new cursor all the same: read on until it stays.
        Raises Invalid for a cursor that no journal gave out.
        """

    async def prune(self, *, limit: int) -> int:
        """Erase the oldest of what is past the engine's JournalLimits, at most `limit` rows; return how many."""


class Engine(Protocol):
    """Stores tasks and coordinates workers, in this process or in many. See the module's rules."""

    workers: WorkerBook
    keys: KeyBook
    audit: AuditBook
    secrets: SecretBook
    queues: QueueBook
    archive: Archive
    control: Control
    schedules: ScheduleBook
    usage: UsageBook
    webhooks: WebhookBook
    tombstones: Tombstones
    journal: Journal
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

    async def stats(self, owner: str | None = None, *, queues: Collection[str] | None = None) -> list[LineStats]:
        """Return the open tasks by queue and type; of this owner and of these queues alone, if given."""

    async def check(self) -> None:
        """Prove that the store takes a durable write now. Raises Unavailable."""

    def watch(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` on the event loop with each batch of committed changes; return what ends that."""
