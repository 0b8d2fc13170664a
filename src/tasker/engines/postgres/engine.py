"""The distributed engine: PostgreSQL, and PgQueuer for the line. The Engine protocol says what methods promise."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random, SystemRandom
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import structlog

from tasker.clock import since_boot
from tasker.engines.postgres.attempts import Attempts, Beat, Words
from tasker.engines.postgres.changes import Changes
from tasker.engines.postgres.claim import MOST_LINES, Patience, Waiters, Window, earliest, seconds_to_look, soon
from tasker.engines.postgres.clock import DatabaseClock
from tasker.engines.postgres.clock_steps import DatabaseSteps
from tasker.engines.postgres.commits import Batches
from tasker.engines.postgres.connections import Connections, OnAcquire
from tasker.engines.postgres.control import PostgresControl
from tasker.engines.postgres.limits import Limits
from tasker.engines.postgres.line import Line, at_level, wanted
from tasker.engines.postgres.listener import LOCKS, Listener
from tasker.engines.postgres.promotion import BATCH, promote
from tasker.engines.postgres.reads import Reads
from tasker.engines.postgres.retention import Erasure, PostgresTombstones
from tasker.engines.postgres.rows import claim_of
from tasker.engines.postgres.sql import queries
from tasker.engines.postgres.storage import bring_up_to_date
from tasker.engines.postgres.stores.archive import PostgresArchive
from tasker.engines.postgres.stores.audit import PostgresAudit
from tasker.engines.postgres.stores.journal import PostgresJournal
from tasker.engines.postgres.stores.keys import PostgresKeys
from tasker.engines.postgres.stores.queues import PostgresQueues
from tasker.engines.postgres.stores.schedules import PostgresSchedules
from tasker.engines.postgres.stores.secrets import PostgresSecrets
from tasker.engines.postgres.stores.usage import PostgresUsage, UsageTable
from tasker.engines.postgres.stores.webhooks import PostgresWebhooks
from tasker.engines.postgres.stores.workers import PostgresWorkers
from tasker.engines.postgres.submit import Submits
from tasker.engines.postgres.tables import make_tables
from tasker.engines.postgres.ties import Options
from tasker.engines.postgres.transaction import Connection, Transaction
from tasker.engines.protocol import (
    ArchiveStore,
    AuditStore,
    ClaimRequest,
    Control,
    Heartbeat,
    JournalStore,
    KeyStore,
    QueueStore,
    ScheduleStore,
    SecretStore,
    TombstoneStore,
    UsageStore,
    WebhookStore,
    WorkerStore,
)
from tasker.engines.protocol import Listener as ChangeListener
from tasker.engines.shared.values import draft_size
from tasker.errors import ConfigError, Unavailable
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
from tasker.model.journal import JournalLimits
from tasker.release import LIMITS
from tasker.rules.lifecycle import Released, decide

T = TypeVar("T")
_log = structlog.get_logger(__name__)

MIN_POOL = 3
_SUBMIT_LANES = 2
_LOOK_AGAIN = timedelta(seconds=0.2)
"""How soon to look again while what waits is held, for the database's clock was set."""
_GONE_AFTER = timedelta(seconds=4)
"""A worker whose process holds no lock any more, and that has been silent for so long, is gone."""


class PostgresEngine:
    """Tasks in PostgreSQL, shared by any number of processes; see Engine for the contract.

    pool_size: connections at the most, beside the one that listens. lease: how long its workers' leases are; after a
    break in the database's answers none is ended for so long, for every living worker can extend its own first.
    on_acquire, session, elapsed: for tests (see Connections, DatabaseSteps).
    """

    is_shared = True

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 8,
        schema: str = "tasker",
        lease: timedelta = timedelta(seconds=10),
        journal: JournalLimits = JournalLimits(),  # noqa: B008
        session: Mapping[str, str] | None = None,
        on_acquire: OnAcquire | None = None,
        elapsed: Callable[[], float] = since_boot,
    ) -> None:
        self._schema = schema
        self._lease = lease
        self._connections = Connections(
            url,
            size=max(pool_size, MIN_POOL),
            journal=f"{schema}.journal",
            settings=session,
            on_acquire=on_acquire,
            on_commit=self._committed,
        )
        self._queries = queries(schema)
        self._line = Line(schema)
        self._erasure = Erasure(self._queries)
        self._limits = Limits(self._queries, self._line)
        self._options = Options(self._queries, self._line, self._limits)
        self._attempts = Attempts(self._queries, self._line, self._limits, self._options)
        self._changes = Changes(self._queries, self._line, self._limits, self._options, self._erasure)
        self._stores = Submits(self._queries, self._line, self._options, self._changes)
        self._reads = Reads(self._queries, schema)
        self._waiters = Waiters()
        self._patience = Patience(SystemRandom())
        self._windows: dict[tuple[Any, ...], Window] = {}
        self._listeners: list[ChangeListener] = []
        self._listener = Listener(self._connections, self._heard)
        self._submits = Batches(self._connections, self._stores.store, lanes=_SUBMIT_LANES)
        self._writes = Batches(self._connections, self._attempts.write)
        self._claiming: set[asyncio.Task[Any]] = set()
        self._unsettled: set[UUID] = set()
        self._settling: asyncio.Task[None] | None = None
        self._opened = False
        self.clock = DatabaseClock()
        self._steps = DatabaseSteps(self._connections, self._queries, lease, elapsed)
        tables = make_tables(schema)
        self.archive: ArchiveStore = PostgresArchive(
            self._connections,
            self._queries,
            {**tables, "usage": UsageTable(self._queries)},
            self._erasure,
            self._options,
        )
        self.tombstones: TombstoneStore = PostgresTombstones(self._connections, self._erasure)
        self.webhooks: WebhookStore = PostgresWebhooks(
            self._connections, self._queries, tables, self._steps.erase_until
        )
        self.schedules: ScheduleStore = PostgresSchedules(
            self._connections, schema, self._queries, self._stores, self._changes
        )
        self.control: Control = PostgresControl(self._connections, self._queries, self._reads, self._changes)
        self.usage: UsageStore = PostgresUsage(self._connections, self._queries)
        self.audit: AuditStore = PostgresAudit(self._connections, self._queries, self._steps.erase_until)
        self.secrets: SecretStore = PostgresSecrets(self._connections, self._queries)
        self.keys: KeyStore = PostgresKeys(self._connections, self._queries, schema)
        self.journal: JournalStore = PostgresJournal(
            self._connections, self._queries, self._prune_journal, journal, self._steps.erase_until
        )
        self.queues: QueueStore = PostgresQueues(self._connections, self._limits)
        self.workers: WorkerStore = PostgresWorkers(self._connections, self._queries, self._listener)

    async def open(self) -> None:
        await bring_up_to_date(self._connections, self._schema)
        await self._connections.open()
        try:
            await self._listener.open()
            await self.clock.set(self._connections)
            await self._steps.look()
        except (OSError, TimeoutError, asyncpg.PostgresError, Unavailable) as error:
            await self._connections.close()
            raise ConfigError(f"TASKER_DATABASE_URL: expected a database that answers, got: {error}") from error
        self._opened = True

    async def close(self) -> None:
        if not self._opened:
            return
        self._opened = False
        self._waiters.wake_all()
        if self._claiming:
            await asyncio.wait(self._claiming)
        if self._settling is not None:
            await asyncio.wait([self._settling])
        await self._steps.close()
        await self._submits.close()
        await self._writes.close()
        await self._listener.close()
        await self._connections.close()

    # what clients do

    async def submit(self, drafts: Sequence[Draft]) -> list[Receipt]:
        if len(drafts) == 1:
            return [await self._submits.put(drafts[0], draft_size(drafts[0]))]
        return await self._connections.transact(lambda tx: self._stores.store(tx, drafts))

    async def find(self, task_id: UUID) -> Task | None:
        return await self._connections.read(lambda connection: self._reads.find(connection, task_id))

    async def find_many(self, where: TaskFilter, *, limit: int, cursor: str | None = None) -> Page:
        return await self._connections.read(lambda connection: self._reads.find_many(connection, where, limit, cursor))

    async def find_attempts(self, task_id: UUID) -> list[Attempt]:
        return await self._connections.read(lambda connection: self._reads.find_attempts(connection, task_id))

    async def find_events(self, task_id: UUID, *, after: int = 0, limit: int = 1000) -> list[Event]:
        return await self._connections.read(
            lambda connection: self._reads.find_events(connection, task_id, after, limit)
        )

    async def cancel(self, task_id: UUID) -> Task:
        return await self._connections.transact(lambda tx: self._changes.cancel(tx, task_id))

    async def retry(self, task_id: UUID) -> Task:
        return await self._connections.transact(lambda tx: self._changes.retry(tx, task_id))

    async def delete(self, task_id: UUID) -> None:
        await self._connections.transact(lambda tx: self._changes.delete(tx, task_id))

    async def stats(self, owner: str | None = None, *, queues: Collection[str] | None = None) -> list[PartitionStats]:
        return await self._connections.read(lambda connection: self._reads.stats(connection, owner, queues))

    # what workers do

    async def claim(self, request: ClaimRequest, *, wait_for: timedelta) -> list[Claim]:
        deadline = asyncio.get_running_loop().time() + wait_for.total_seconds()
        waiter, woken = self._waiters.join(request), False
        try:
            while True:
                waiter.news.clear()
                claims, next_in = await self._kept(self._look_and_claim(request))
                if woken:
                    self._patience.found(bool(claims))
                left = deadline - asyncio.get_running_loop().time()
                if claims or left <= 0 or not self._opened:
                    return claims
                pause = min(left, seconds_to_look(next_in, is_deaf=not self._listener.is_connected))
                woken = await _set_within(waiter.news, pause)
                if woken and self._opened:
                    await asyncio.sleep(self._patience.seconds())
        finally:
            self._waiters.leave(waiter)

    async def heartbeat(self, leases: Sequence[Lease], extend_by: timedelta) -> Heartbeat:
        beat = await self._writes.put(Beat(leases, extend_by))
        assert isinstance(beat, Heartbeat)
        return beat

    async def record(self, lease: Lease, report: Report) -> bool:
        return bool(await self._writes.put(Words(lease, report, None)))

    async def complete(self, lease: Lease, change: Transition, report: Report | None = None) -> bool:
        size = 0 if change.result is None else len(change.result)
        return bool(await self._writes.put(Words(lease, report, change), size))

    # what chores do

    async def find_expired(self, *, limit: int) -> list[Claim]:
        await self._steps.look()

        async def query(connection: Connection) -> list[Claim]:
            gone = await connection.fetch(self._queries["gone_workers"], LOCKS, _GONE_AFTER)
            names = [row["worker_id"] for row in gone]
            return [claim_of(row) for row in await connection.fetch(self._queries["expired"], limit, names)]

        with self._connections.contact.measured():
            expired = await self._connections.look(query)
        return expired if self._connections.contact.lasts(self._lease) else []

    async def fail_overdue(self, *, limit: int) -> int:
        return await self._connections.transact(lambda tx: self._options.fail_overdue(tx, limit))

    async def prune(self, *, limit: int) -> int:
        try:
            await self._connections.transact(lambda tx: self._changes.empty_log(tx))
        except Unavailable as error:
            _log.info("store.log_not_emptied", reason=error.detail)
        done = await self._connections.transact(lambda tx: self._changes.prune(tx, self._steps.erase_until, limit))
        return done or await self.journal.prune(limit=limit)

    async def sweep(self, *, limit: int) -> int:
        await self.clock.set(self._connections)
        await self._steps.look()

        async def work(tx: Transaction) -> int:
            await self._steps.keep(tx)
            return await self._changes.sweep(tx, limit)

        found = await self._connections.transact(work)
        while await self._connections.transact(lambda tx: self._limits.lift_older(tx)):
            pass  # older workers are stopped by what is left
        return found

    async def check(self) -> None:
        await self._connections.transact(lambda tx: tx.execute(self._queries["probe"]))

    def watch(self, listener: ChangeListener) -> Callable[[], None]:
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop

    # inside

    async def _prune_journal(self, work: Callable[[Connection], Awaitable[int]]) -> int:
        return await self._connections.transact(lambda tx: self._changes.prune_journal(tx, work))

    async def _look_and_claim(self, request: ClaimRequest) -> tuple[list[Claim], timedelta | None]:
        """Claim what is due; return it, and the time to the next task that waits for a moment."""
        window = self._window_of(request)
        lines, next_in = await self._look(window)
        if next_in is not None and next_in <= timedelta(0):
            limit = max(BATCH, request.limit)
            await self._connections.transact(lambda tx: promote(tx, self._queries, self._line, limit=limit))
            lines, next_in = await self._look(window)
        window.move(lines)
        claims, again_in = await self._claim_from(request, await self._lifted(lines), next_in)
        return claims, again_in if window.is_done(bool(claims)) else timedelta(0)

    async def _lifted(self, lines: Sequence[str]) -> Sequence[str]:
        """Have jobs that older processes put in line wait where limits are kept; return the lines of now."""
        older = self._limits.to_lift(lines)
        if not older:
            return lines
        await self._connections.transact(lambda tx: self._limits.lift(tx, older))
        return list(dict.fromkeys([*lines, *(at_level(line, LIMITS) for line in older)]))

    async def _claim_from(
        self, request: ClaimRequest, lines: Sequence[str], next_in: timedelta | None
    ) -> tuple[list[Claim], timedelta | None]:
        """Claim what is in these lines; return it, and when to look again."""
        open_lines = self._limits.open_lines(lines)
        ordinary, suspects = wanted(request, open_lines)
        if not ordinary and not suspects:
            return [], next_in
        claims, opens_in = await self._connections.transact(lambda tx: self._attempts.claim(tx, request, open_lines))
        if claims:
            return claims, next_in
        if self._limits.keep_all([*ordinary, *suspects]):
            return [], earliest(next_in, opens_in)
        return [], earliest(soon(next_in), opens_in)

    def _window_of(self, request: ClaimRequest) -> Window:
        queues = None if request.queues is None else frozenset(request.queues)
        return self._windows.setdefault((frozenset(request.types), queues, request.suspects > 0), Window())

    async def _look(self, window: Window, *, again: bool = True) -> tuple[list[str], timedelta | None]:
        asked = self._steps.asking()
        row = await self._connections.look(
            lambda connection: connection.fetchrow(self._queries["look"], window.after, MOST_LINES)
        )
        assert row is not None
        self._limits.hear(row["settings"])
        was_set = await self._steps.see(asked, row["now"], row["steps"])
        if was_set and again:
            return await self._look(window, again=False)
        if row["is_moving"]:
            self._steps.move_on()
        if was_set or row["is_moving"]:
            return row["lines"], _LOOK_AGAIN
        next_due: datetime | None = row["next_due"]
        return row["lines"], None if next_due is None else next_due - row["now"]

    async def _kept(self, claiming: Any) -> tuple[list[Claim], timedelta | None]:
        """Await a claim; if the caller goes away meanwhile, what it took is given back."""
        task: asyncio.Task[tuple[list[Claim], timedelta | None]] = asyncio.ensure_future(claiming)
        self._claiming.add(task)
        task.add_done_callback(self._claiming.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            back = asyncio.ensure_future(self._give_back(task))
            self._claiming.add(back)
            back.add_done_callback(self._claiming.discard)
            raise

    async def _give_back(self, claiming: asyncio.Task[tuple[list[Claim], timedelta | None]]) -> None:
        try:
            claims, _ = await claiming
            for claim in claims:
                await self.complete(claim.lease, decide(Released(), claim, self.clock.now(), Random()))  # noqa: S311
        except Unavailable as error:
            _log.warning("store.claims_not_given_back", reason=error.detail)

    def _heard(self, lines: Iterable[str], changes: list[Change]) -> None:
        """News of another process; without lines and changes: news may be lost."""
        if changes or not lines:
            self._tell_listeners(changes)
        if not changes and not lines:
            self._waiters.wake_all()
        self._waiters.wake(lines)

    def _committed(self, tx: Transaction) -> None:
        """Notify this process of a transaction that is durable."""
        if tx.is_retry:
            self._heard((), [])
        if tx.changes:
            self._tell_listeners(tx.changes)
        if tx.partitions:
            self._waiters.wake(tx.partitions)
        if tx.unsettled:
            self._unsettled |= tx.unsettled
            if self._settling is None and self._opened:
                self._settling = asyncio.create_task(self._settle_rest())

    async def _settle_rest(self) -> None:
        """Go on with the dependants of tasks that have ended, where they are too many for one transaction."""
        try:
            while self._unsettled and self._opened:
                some, self._unsettled = list(self._unsettled), set()
                await self._connections.transact(functools.partial(self._options.settle_rest, task_ids=some))
        except Unavailable as error:  # the sweeps find what is left
            _log.warning("store.dependants_not_settled", reason=error.detail)
        finally:
            self._settling = None

    def _tell_listeners(self, changes: Sequence[Change]) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(changes)
            except Exception:  # a listener's fault is its own: the others hear the news
                _log.exception("store.listener_failed")


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait until the event is set, and tell so; after so many seconds set it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    timer = loop.call_at(deadline, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()
    return loop.time() < deadline


@contextlib.asynccontextmanager
async def open_postgres(url: str, **options: Any) -> AsyncIterator[PostgresEngine]:
    """Open the store at `url`, and close it at the end; options: those of PostgresEngine. Raises ConfigError."""
    engine = PostgresEngine(url, **options)
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()
