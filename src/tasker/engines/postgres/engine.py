"""The distributed engine: PostgreSQL, with PgQueuer as the queue. The Engine protocol documents the methods."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from datetime import timedelta
from random import Random
from uuid import UUID

import asyncpg
import structlog

from tasker import model
from tasker.clock import since_boot
from tasker.engines import protocol
from tasker.engines.postgres.attempts import Attempts, Beat, Update
from tasker.engines.postgres.claim import Claims, Starts
from tasker.engines.postgres.clock import DatabaseClock
from tasker.engines.postgres.clock_steps import DatabaseSteps
from tasker.engines.postgres.commits import Batches
from tasker.engines.postgres.connections import Connections, OnAcquire
from tasker.engines.postgres.control import PostgresControl, TaskChanges
from tasker.engines.postgres.families import Families
from tasker.engines.postgres.groups import TaskGroups
from tasker.engines.postgres.jobs import Jobs
from tasker.engines.postgres.limits import Limits
from tasker.engines.postgres.listener import LOCKS, Listener
from tasker.engines.postgres.lists import Lists
from tasker.engines.postgres.notifications import LEAD_IS_FREE
from tasker.engines.postgres.parking import Parking
from tasker.engines.postgres.reads import Reads
from tasker.engines.postgres.retention import Erasure, PostgresTombstones, Retention
from tasker.engines.postgres.rows import claim_of
from tasker.engines.postgres.settler import Settler
from tasker.engines.postgres.sql import queries
from tasker.engines.postgres.storage import bring_up_to_date
from tasker.engines.postgres.stored_steps import StoredSteps
from tasker.engines.postgres.stores.archive import PostgresArchive
from tasker.engines.postgres.stores.bulk import PostgresBulks
from tasker.engines.postgres.stores.inbox import PostgresInbox
from tasker.engines.postgres.stores.journal import PostgresJournal
from tasker.engines.postgres.stores.keys import PostgresKeys
from tasker.engines.postgres.stores.lead import PostgresLead
from tasker.engines.postgres.stores.peers import PostgresPeers
from tasker.engines.postgres.stores.queues import PostgresQueues
from tasker.engines.postgres.stores.schedules import PostgresSchedules
from tasker.engines.postgres.stores.stats import PostgresStats
from tasker.engines.postgres.stores.steps import PostgresSteps
from tasker.engines.postgres.stores.webhooks import PostgresWebhooks
from tasker.engines.postgres.stores.workers import PostgresWorkers
from tasker.engines.postgres.submit import Submits
from tasker.engines.postgres.tables import PostgresDatabase, Texts
from tasker.engines.postgres.ties import TiedTasks
from tasker.engines.postgres.transaction import Connection, Transaction
from tasker.engines.postgres.waiters import Waiters
from tasker.engines.postgres.wakeups import Wakeups
from tasker.engines.shared.batches import draft_size
from tasker.engines.shared.listeners import Listeners
from tasker.engines.shared.looks import DEFAULT_BOUNDS, Bounds
from tasker.engines.shared.stores.audit import Audit
from tasker.engines.shared.stores.failures import Failures
from tasker.engines.shared.stores.groups import Groups
from tasker.engines.shared.stores.secrets import Secrets
from tasker.engines.shared.stores.usage import Usage
from tasker.engines.shared.task_log import find_log
from tasker.errors import ConfigError, Unavailable
from tasker.model.journal import JournalLimits
from tasker.model.steps import Forget
from tasker.rules.lifecycle import Released, decide

_log = structlog.get_logger(__name__)

MIN_POOL = 3
_SUBMIT_TRANSACTIONS = 2
"""Transactions of submissions at a time."""
_GONE_AFTER = timedelta(seconds=4)
"""A worker counts as gone if its process no longer holds its lock and it has been silent for this long."""


@contextlib.asynccontextmanager
async def open_postgres(
    url: str,
    *,
    listen_url: str | None = None,
    pool_size: int = 8,
    schema: str = "tasker",
    lease: timedelta = timedelta(seconds=10),
    journal: JournalLimits = JournalLimits(),  # noqa: B008
    session: Mapping[str, str] | None = None,
    on_acquire: OnAcquire | None = None,
    elapsed: Callable[[], float] = since_boot,
    bounds: Bounds = DEFAULT_BOUNDS,
) -> AsyncIterator[PostgresEngine]:
    """Open the store at `url`: migrate it, and listen to other processes. Close it at the end.

    listen_url: the database server itself, where `url` leads to a pooler in transaction mode (see Connections).
    pool_size: limit of connections, besides the one that listens. lease: length of its workers' leases; after a break
    in the database's answers no lease is ended for that long, so that live workers can extend theirs first.
    bounds: of a look at tasks. on_acquire, session, elapsed: for tests (see Connections, DatabaseSteps).
    Raises ConfigError when the database cannot be used, naming what to do.
    """
    connections = Connections(
        url,
        size=max(pool_size, MIN_POOL),
        listen_url=listen_url,
        journal_table=f"{schema}.journal",
        settings=session,
        on_acquire=on_acquire,
    )
    await bring_up_to_date(connections, schema)
    await connections.open()
    engine = PostgresEngine(connections, schema, lease=lease, journal=journal, elapsed=elapsed, bounds=bounds)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()


class PostgresEngine:
    """Tasks in PostgreSQL, shared by any number of processes; see Engine for the contract. `open_postgres` makes it."""

    is_shared = True

    def __init__(
        self,
        connections: Connections,
        schema: str,
        *,
        lease: timedelta,
        journal: JournalLimits,
        elapsed: Callable[[], float],
        bounds: Bounds,
    ) -> None:
        self.clock = DatabaseClock()
        self._lease = lease
        self._closed = False
        self._connections = connections
        connections.on_commit = self._committed
        self._queries = queries(schema)
        self._lists = Lists(self._queries, schema, bounds)
        self._steps = DatabaseSteps(connections, self._queries, lease, elapsed, self.clock)
        self._lead = PostgresLead(connections, self._queries, elapsed)
        self._waiters = Waiters()
        self._wakeups = Wakeups(connections, self._queries, self._waiters)
        connections.route = self._wakeups.route
        self._listeners = Listeners()
        self._listener = Listener(connections, self._heard)
        texts = Texts(self._queries, schema)
        self._reads = Reads(texts)
        self._make_writers(schema, texts)
        self._make_stores(texts, journal)

    def _make_writers(self, schema: str, texts: Texts) -> None:
        """Make the writers of tasks, and the batches that gather their items."""
        connections, named = self._connections, self._queries
        self._jobs = jobs = Jobs(schema)
        self._limits = limits = Limits(named, jobs)
        self._parking = parking = Parking(named, limits)
        self._groups = groups = TaskGroups(texts)
        connections.write_counts = groups.write_counts
        self._ties = ties = TiedTasks(named, jobs, parking, groups)
        self._erasure = Erasure(named, groups)
        self._stored_steps = steps = StoredSteps(texts)
        self._changes = TaskChanges(named, jobs, parking, ties, self._erasure, steps, groups, self._reads)
        self._retention = Retention(texts, jobs, parking, ties, self._erasure)
        self._submits = Submits(texts, jobs, ties, groups, self._changes, steps)
        self._families = Families(named, texts.schema, jobs, parking, ties)
        connections.before_commit = self._families.finish
        self._starts = Starts(named, jobs, limits, parking, ties)
        self._settler = Settler(connections, ties, self._families)
        self._drafts = Batches(connections, self._submits.store, at_once=_SUBMIT_TRANSACTIONS)
        self._updates = Batches(connections, Attempts(named, jobs, parking, ties, steps).write)
        self._claims = Claims(
            connections,
            named,
            jobs,
            self._starts,
            limits,
            self._steps,
            self._waiters,
            self._lead.saw,
            give_back=self._give_back,
            is_deaf=lambda: not self._listener.is_connected,
        )

    def _make_stores(self, texts: Texts, journal: JournalLimits) -> None:
        connections, named, erase_until = self._connections, self._queries, self._steps.erase_until
        database = self._database = PostgresDatabase(connections, texts, erase_until)
        self.archive: protocol.ArchiveStore = PostgresArchive(
            connections, texts, self._erasure, self._ties, self._groups
        )
        self.tombstones: protocol.TombstoneStore = PostgresTombstones(connections, self._erasure)
        self.webhooks: protocol.WebhookStore = PostgresWebhooks(database)
        self.schedules: protocol.ScheduleStore = PostgresSchedules(database, self._submits, self._changes)
        self.control: protocol.Control = PostgresControl(connections, named, self._lists)
        self.bulk: protocol.BulkStore = PostgresBulks(database, named, self._changes)
        self.usage: protocol.UsageStore = Usage(database)
        self.stats: protocol.StatsStore = PostgresStats(connections, named, database)
        self.steps: protocol.StepStore = PostgresSteps(
            connections, database, texts, self._stored_steps, self._submits, self._changes, self._jobs, self._families
        )
        self.failures: protocol.FailureStore = Failures(database)
        self.groups: protocol.GroupStore = Groups(database)
        self.audit: protocol.AuditStore = Audit(database)
        self.secrets: protocol.SecretStore = Secrets(database)
        self.keys: protocol.KeyStore = PostgresKeys(database)
        self.journal: protocol.JournalStore = PostgresJournal(
            connections, named, self._prune_journal, journal, erase_until
        )
        self.queues: protocol.QueueStore = PostgresQueues(connections, named, self._limits, self._parking)
        self.workers: protocol.WorkerStore = PostgresWorkers(
            connections, named, texts.schema, self._listener, self._waiters
        )
        self.lead: protocol.Lead = self._lead
        self.peers: protocol.Peers = PostgresPeers(connections, named, self._steps)
        self.inbox: protocol.InboxStore | None = PostgresInbox(
            connections, named, texts.schema, self._submits, self._listener
        )

    async def start(self) -> None:
        """Listen to other processes, and look at the database's clock. Raises ConfigError."""
        try:
            await self._listener.open()
            await self._steps.look()
        except (OSError, TimeoutError, asyncpg.PostgresError, Unavailable) as error:
            raise ConfigError(f"TASKER_DATABASE_URL: expected a database that answers, got: {error}") from error

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._claims.close()
        await self._settler.close()
        await self._steps.close()
        await self._drafts.close()
        await self._updates.close()
        await self._wakeups.close()
        await self._listener.close()
        await self._connections.close()

    # calls of clients

    async def submit(self, drafts: Sequence[model.Draft]) -> list[model.Receipt]:
        if len(drafts) == 1:
            return [await self._drafts.put(drafts[0], draft_size(drafts[0]))]
        return await self._connections.transact(lambda tx: self._submits.store(tx, drafts))

    async def find(self, task_id: UUID) -> model.Task | None:
        return await self._connections.read(lambda connection: self._reads.find(connection, task_id))

    async def find_many(self, where: model.TaskFilter, *, limit: int, cursor: str | None = None) -> model.Page:
        return await self._connections.read(lambda connection: self._lists.find_many(connection, where, limit, cursor))

    async def count(self, where: model.TaskFilter, *, at_most: int = 10_001) -> model.TaskCount:
        return await self._connections.read(lambda connection: self._lists.count_up_to(connection, where, at_most))

    async def find_attempts(self, task_id: UUID) -> list[model.Attempt]:
        return await self._connections.read(lambda connection: self._reads.find_attempts(connection, task_id))

    async def find_events(self, task_id: UUID, *, after: int = 0, limit: int = 1000) -> list[model.Event]:
        return await self._connections.read(
            lambda connection: self._reads.find_events(connection, task_id, after, limit)
        )

    async def find_log(
        self, task_id: UUID, *, levels: Sequence[str] | None = None, limit: int = 100, before: int | None = None
    ) -> model.LogPage:
        return await self._database.read(
            lambda rows: find_log(rows, task_id, levels=levels, limit=limit, before=before)
        )

    async def cancel(self, task_id: UUID) -> model.Task:
        return await self._change(task_id, lambda tx: self._changes.cancel(tx, task_id))

    async def retry(self, task_id: UUID, forget: Forget | None = None) -> model.Task:
        return await self._change(task_id, lambda tx: self._changes.retry(tx, task_id, forget))

    async def delete(self, task_id: UUID) -> None:
        await self._connections.transact(lambda tx: self._changes.delete(tx, task_id))

    # calls of workers

    async def claim(self, request: protocol.ClaimRequest, *, wait_for: timedelta) -> list[model.Claim]:
        return await self._claims.claim(request, wait_for)

    async def heartbeat(self, leases: Sequence[model.Lease], extend_by: timedelta) -> protocol.Heartbeat:
        beat = await self._updates.put(Beat(leases, extend_by))
        assert isinstance(beat, protocol.Heartbeat)
        return beat

    async def record(self, lease: model.Lease, report: model.Report) -> bool:
        return bool(await self._updates.put(Update(lease, report, None)))

    async def complete(self, lease: model.Lease, change: model.Transition, report: model.Report | None = None) -> bool:
        size = 0 if change.result is None else len(change.result)
        return bool(await self._updates.put(Update(lease, report, change), size))

    # calls of chores

    async def find_expired(self, *, limit: int) -> list[model.Claim]:
        await self._steps.look()

        async def query(connection: Connection) -> list[model.Claim]:
            gone = await connection.fetch(self._queries["gone_workers"], LOCKS, _GONE_AFTER)
            names = [row["worker_id"] for row in gone]
            return [claim_of(row) for row in await connection.fetch(self._queries["expired"], limit, names)]

        with self._connections.contact.measured():
            expired = await self._connections.look(query)
        return expired if self._connections.contact.lasts(self._lease) else []

    async def fail_overdue(self, *, limit: int) -> int:
        return await self._connections.transact(lambda tx: self._ties.fail_overdue(tx, limit))

    async def prune(self, *, limit: int) -> int:
        try:
            await self._connections.transact(lambda tx: self._retention.empty_log(tx))
        except Unavailable as error:
            _log.info("store.log_not_emptied", reason=error.detail)
        done = await self._connections.transact(lambda tx: self._retention.prune(tx, self._steps.erase_until, limit))
        return done or await self.journal.prune(limit=limit)

    async def sweep(self, *, limit: int) -> int:
        await self._steps.look()

        async def work(tx: Transaction) -> int:
            await self._steps.keep(tx)
            return await self._retention.sweep(tx, limit)

        found = await self._connections.transact(work)
        while await self._connections.transact(self._limits.lift_older):
            pass  # older workers would take jobs that are left there
        return found

    async def check(self) -> None:
        await self._connections.transact(lambda tx: tx.execute(self._queries["probe"]))

    def watch(self, listener: protocol.Listener) -> Callable[[], None]:
        return self._listeners.add(listener)

    # inside

    async def _change(self, task_id: UUID, work: Callable[[Transaction], Awaitable[model.Task]]) -> model.Task:
        """Change a task for its client; return it as it is with all that follows from that."""

        async def change(tx: Transaction) -> model.Task:
            task = await work(tx)
            if tx.family_work is None:
                return task
            await self._families.finish(tx)
            return await self._changes.find(tx, task_id)

        return await self._connections.transact(change)

    async def _prune_journal(self, work: Callable[[Connection], Awaitable[int]]) -> int:
        return await self._connections.transact(lambda tx: self._retention.prune_journal(tx, work))

    async def _give_back(self, claim: model.Claim) -> None:
        await self.complete(claim.lease, decide(Released(), claim, self.clock.now(), Random()))  # noqa: S311

    def _committed(self, tx: Transaction) -> None:
        """Notify this process's listeners of a durable transaction."""
        if tx.is_retry:
            self._heard((), [], False)
        woken = [change for own in tx.woken.values() for change in own]
        if tx.changes or woken:
            self._listeners.notify([*tx.changes, *woken])
        if tx.partitions:
            self._wakeups.committed(tx)
        if tx.unsettled or tx.unattended:
            self._settler.add(tx.unsettled, tx.unattended)

    def _heard(self, partitions: Collection[str], changes: list[model.Change], is_chosen: bool) -> None:
        """Pass on a notification of another process; an empty one says that some may have been lost."""
        if LEAD_IS_FREE in partitions:
            self._lead.saw(timedelta(0))
            return
        if changes or not partitions:
            self._listeners.notify(changes)
        if not changes and not partitions:
            self._waiters.wake_all()
        self._waiters.wake(partitions, is_chosen=is_chosen)
