"""The embedded engine: one process, one SQLite file, group commit. The Engine protocol documents the methods."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import structlog
from msgspec import structs

from tasker import model
from tasker.clock import MICROSECOND, Clock, from_micros, to_micros
from tasker.engines import protocol
from tasker.engines.shared.batches import draft_size
from tasker.engines.shared.listeners import Listeners
from tasker.engines.shared.looks import DEFAULT_BOUNDS, Bounds, Look, count_of, for_counts
from tasker.engines.shared.stores.audit import Audit
from tasker.engines.shared.stores.failures import Failures
from tasker.engines.shared.stores.groups import Groups
from tasker.engines.shared.stores.secrets import Secrets
from tasker.engines.shared.stores.usage import Usage
from tasker.engines.shared.task_log import find_log
from tasker.engines.sqlite import attempts, control, lists, reads
from tasker.engines.sqlite.clock_steps import ClockSteps
from tasker.engines.sqlite.commits import GroupCommit
from tasker.engines.sqlite.control import SqliteControl
from tasker.engines.sqlite.faults import reading
from tasker.engines.sqlite.group_ends import find_unsettled, settle_rest, write_counts
from tasker.engines.sqlite.partitions import Partitions
from tasker.engines.sqlite.reader import READERS, Reader
from tasker.engines.sqlite.result_files import DEFAULT_OVER, Results, is_reference, lost
from tasker.engines.sqlite.retention import References, SqliteTombstones, prune
from tasker.engines.sqlite.scan_pace import ScanPace
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.storage import OpenDatabase, check_space, connect, open_database, opening, probe
from tasker.engines.sqlite.stores.archive import SqliteArchive
from tasker.engines.sqlite.stores.bulk import SqliteBulks
from tasker.engines.sqlite.stores.journal import SqliteJournal
from tasker.engines.sqlite.stores.keys import SqliteKeys
from tasker.engines.sqlite.stores.lead import SqliteLead
from tasker.engines.sqlite.stores.peers import SqlitePeers
from tasker.engines.sqlite.stores.queues import SqliteQueues
from tasker.engines.sqlite.stores.schedules import SqliteSchedules
from tasker.engines.sqlite.stores.stats import SqliteStats
from tasker.engines.sqlite.stores.steps import SqliteSteps
from tasker.engines.sqlite.stores.webhooks import SqliteWebhooks
from tasker.engines.sqlite.stores.workers import SqliteWorkers
from tasker.engines.sqlite.submit import insert
from tasker.engines.sqlite.tables import SqliteDatabase
from tasker.engines.sqlite.ties import fail_overdue
from tasker.engines.sqlite.transaction import Transaction
from tasker.engines.sqlite.waiters import Waiter, Waiters
from tasker.errors import Unavailable
from tasker.model.journal import JournalLimits
from tasker.model.steps import Forget
from tasker.model.webhooks import DELIVERY_LEASE
from tasker.rules.lifecycle import Released, decide

_log = structlog.get_logger(__name__)

_FEW_EVENTS = 25
"""Limit of events that are read on the event loop: the usual read after a notification returns a few."""
_AFTER_A_FAULT = 0.5
"""Seconds after a failed commit until waiting claims are tried again."""
_LOOK_EVERY = 1.0
"""Seconds between checks that the files are in place, while no commit checks."""


@contextlib.asynccontextmanager
async def open_sqlite(
    path: Path,
    clock: Clock,
    *,
    journal: JournalLimits = JournalLimits(),  # noqa: B008
    spill_over: int = DEFAULT_OVER,
    bounds: Bounds = DEFAULT_BOUNDS,
) -> AsyncIterator[SqliteEngine]:
    """Open the store at `path` for this process alone: lock, migrate, recover. Close it at the end.

    Attempts cut off by the end of an earlier process count as expired at once.
    spill_over: the largest result, in bytes, that is stored in the database file; larger ones have their own files.
    bounds: of a look at tasks.
    Raises ConfigError when the store cannot be used, naming what to do; StoreInUse, and Unavailable for a full disk.
    """
    opened = open_database(path)
    try:
        with opening(opened.path):
            engine = SqliteEngine(opened, clock, journal, spill_over, bounds)
    except BaseException:
        opened.lock.release()
        raise
    try:
        yield engine
    finally:
        await engine.close()


class SqliteEngine:
    """Tasks in one SQLite file; see Engine for the contract. `open_sqlite` makes one, for use on that event loop."""

    is_shared = False
    inbox: protocol.InboxStore | None = None

    def __init__(
        self, opened: OpenDatabase, clock: Clock, journal: JournalLimits, spill_over: int, bounds: Bounds
    ) -> None:
        self.path = opened.path
        self.migrated = opened.migrated
        self._lock = opened.lock
        self._clock = clock
        self._points = opened.points
        self._loop = asyncio.get_running_loop()
        self._read = Reader([opened.scans, *(connect(opened.path, read_only=True) for _ in range(1, READERS))])
        self._pace = ScanPace(self._loop.time)
        self._bounds = bounds
        self._results = Results(self.path.with_name("results"), spill_over)
        self._partitions = Partitions(clock)
        self._waiters = Waiters(clock, self._partitions)
        self._clock_steps = ClockSteps(clock, self._partitions.clock_was_set)
        self._clock_steps.open(opened.writer)
        opened.writer.execute(QUERIES["release_deliveries"], (DELIVERY_LEASE // MICROSECOND,))
        self._partitions.unsettled.update(dict.fromkeys(find_unsettled(opened.writer)))
        self._commits = GroupCommit(
            opened.writer,
            presence=opened.presence,
            begin=lambda connection: Transaction(connection, self._micros(), self._partitions),
            before_work=self._clock_steps.before_work,
            after_work=write_counts,
            before_commit=self._waiters.serve,
            after_commit=self._committed,
            after_rollback=self._rolled_back,
        )
        read, write, erase_until = self._read, self._commits.run, self._clock_steps.erase_until
        database = self._database = SqliteDatabase(read, write, clock, erase_until)
        self.workers: protocol.WorkerStore = SqliteWorkers(clock, self._find_running)
        self.audit: protocol.AuditStore = Audit(database)
        self.secrets: protocol.SecretStore = Secrets(database)
        self.keys: protocol.KeyStore = SqliteKeys(database)
        self.journal: protocol.JournalStore = SqliteJournal(read, write, clock, journal, self._results, erase_until)
        self.tombstones: protocol.TombstoneStore = SqliteTombstones(clock, read)
        self.usage: protocol.UsageStore = Usage(database)
        self.stats: protocol.StatsStore = SqliteStats(clock, read, write, database)
        self.steps: protocol.StepStore = SqliteSteps(database, read, write, self._results)
        self.failures: protocol.FailureStore = Failures(database)
        self.groups: protocol.GroupStore = Groups(database)
        self.archive: protocol.ArchiveStore = SqliteArchive(clock, read, write, database, self._results)
        self.schedules: protocol.ScheduleStore = SqliteSchedules(database)
        self.webhooks: protocol.WebhookStore = SqliteWebhooks(database, self._follow_clock)
        self.control: protocol.Control = SqliteControl(clock, read, bounds)
        self.bulk: protocol.BulkStore = SqliteBulks(database, self._erase)
        self.queues: protocol.QueueStore = SqliteQueues(read, write, self._partitions, clock)
        self.lead: protocol.Lead = SqliteLead()
        self.peers: protocol.Peers = SqlitePeers()
        self._listeners = Listeners()
        self._timer: asyncio.TimerHandle | None = None
        self._moving = False
        self._erasing: set[asyncio.Task[int]] = set()
        self._settling: asyncio.Task[None] | None = None
        self._has_erased = False
        self._opened = True
        self._move_on()
        self._settle_later()
        self._look_at_files()

    async def close(self) -> None:
        if not self._opened:
            return
        self._opened = False
        self._next_look.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._waiters.close()
        if self._settling is not None:
            await asyncio.wait([self._settling])
        if self._erasing:
            await asyncio.wait(self._erasing)
        self._read.close()
        self._points.close()
        self._results.close()
        await self._commits.close()  # last: only the last connection of all folds the WAL in
        self._lock.release()

    @property
    def commits(self) -> int:
        """Transactions made durable since open."""
        return self._commits.commits

    async def next_moment(self) -> datetime | None:
        """Return when time alone lets a task start, or fails it for its deadline; None if it never does.

        For those who move the clock themselves. It is right after a claim that has found nothing.
        """
        while self._settling is not None:
            await asyncio.wait([self._settling])
        moment = self._partitions.next_moment()
        return None if moment is None else from_micros(moment)

    async def submit(self, drafts: Sequence[model.Draft]) -> list[model.Receipt]:
        waiting = self._waiters if len(drafts) == 1 else None
        return await self._commits.run(
            lambda tx: [insert(tx, draft, waiting) for draft in drafts], size=sum(map(draft_size, drafts))
        )

    async def find(self, task_id: UUID) -> model.Task | None:
        task = reading(reads.find, self._points, task_id, self._micros())
        while task is not None and is_reference(task.result):
            reference = bytes(task.result or b"")
            loaded = await self._results.load(task)
            if loaded is not None:
                return loaded
            task = reading(
                reads.find, self._points, task_id, self._micros()
            )  # perhaps the task was erased, and its file with it
            if task is not None and task.result is not None and bytes(task.result) == reference:
                raise lost(reference)
        return task

    async def find_many(self, where: model.TaskFilter, *, limit: int, cursor: str | None = None) -> model.Page:
        if cursor is not None and self._commits.is_busy:
            await asyncio.sleep(self._pace.rest())
        look, begun = Look.after(cursor, self._bounds, limit), self._loop.time()
        page = await self._read.scan(lists.find_many, where, limit, look, self._micros(), self._results)
        self._pace.took(self._loop.time() - begun)
        return page

    async def count(self, where: model.TaskFilter, *, at_most: int = 10_001) -> model.TaskCount:
        look = Look.after(None, for_counts(self._bounds))
        return count_of(await self._read.scan(lists.count, where, look, self._micros(), at_most), at_most)

    async def find_attempts(self, task_id: UUID) -> list[model.Attempt]:
        return await self._read(reads.find_attempts, task_id, self._micros())

    async def find_events(self, task_id: UUID, *, after: int = 0, limit: int = 1000) -> list[model.Event]:
        if limit <= _FEW_EVENTS:  # a hand-over to the reader's thread would cost more
            return reading(reads.find_events, self._points, task_id, after, limit, self._micros())
        return await self._read(reads.find_events, task_id, after, limit, self._micros())

    async def find_log(
        self, task_id: UUID, *, levels: Sequence[str] | None = None, limit: int = 100, before: int | None = None
    ) -> model.LogPage:
        return await self._database.read(
            lambda rows: find_log(rows, task_id, levels=levels, limit=limit, before=before)
        )

    async def claim(self, request: protocol.ClaimRequest, *, wait_for: timedelta) -> list[model.Claim]:
        waiter = Waiter(request, self._loop.create_future())
        self._waiters.join(waiter)
        _ignore_result(self._commits.run(_nothing))
        deadline = self._loop.call_later(wait_for.total_seconds(), waiter.give_up)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if self._opened and not waiter.future.cancelled():  # it was served at the same moment
                self._give_back(waiter.served)
            raise
        finally:
            deadline.cancel()
            self._waiters.leave(waiter)

    async def heartbeat(self, leases: Sequence[model.Lease], extend_by: timedelta) -> protocol.Heartbeat:
        expires_at = self._waiters.steady + extend_by // MICROSECOND
        return await self._commits.run(functools.partial(attempts.extend, leases=leases, expires_at=expires_at))

    async def record(self, lease: model.Lease, report: model.Report) -> bool:
        return await self._commits.run(
            functools.partial(attempts.record, lease=lease, report=report), size=_size_of(report)
        )

    def complete(
        self, lease: model.Lease, change: model.Transition, report: model.Report | None = None
    ) -> Awaitable[bool]:
        if change.result is None or len(change.result) <= self._results.over:
            return self._end(lease, change, report)
        return self._end_with_file(lease, change, change.result, report)

    async def _end_with_file(
        self, lease: model.Lease, change: model.Transition, result: bytes, report: model.Report | None
    ) -> bool:
        async with self._results.kept(lease, result) as stored:
            change = structs.replace(change, result=stored.reference)
            stored.is_stored = await self._end(lease, change, report)
        return stored.is_stored

    async def cancel(self, task_id: UUID) -> model.Task:
        return await self._commits.run(functools.partial(control.cancel, task_id=task_id))

    async def retry(self, task_id: UUID, forget: Forget | None = None) -> model.Task:
        return await self._commits.run(functools.partial(control.retry, task_id=task_id, forget=forget))

    async def delete(self, task_id: UUID) -> None:
        await self._erase(lambda tx: (1, control.delete(tx, task_id)))

    async def find_expired(self, *, limit: int) -> list[model.Claim]:
        return await self._read(reads.find_expired, self._waiters.steady, limit)

    async def fail_overdue(self, *, limit: int) -> int:
        return await self._commits.run(functools.partial(fail_overdue, limit=limit))

    async def prune(self, *, limit: int) -> int:
        until = self._clock_steps.erase_until()

        def work(tx: Transaction) -> tuple[int, References]:
            self._clock_steps.keep(tx.connection, until)
            return prune(tx, until, limit)

        done = await self._erase(work)
        done = done or await self.journal.prune(limit=limit)
        if not done and self._has_erased:  # only once everything is erased, because it delays writers
            self._has_erased = not await self._commits.empty_log()
        return done

    async def sweep(self, *, limit: int) -> int:
        """Unpark tasks that no longer need to wait, the only possible inconsistency, and remove stray files."""
        found = await self._read(self._results.sweep, limit) if self._results.has_left else 0
        if self._partitions.limits.has_parked:
            found += await self._commits.run(lambda tx: self._partitions.unpark_many(tx.connection, tx.now, limit))
        return found

    async def check(self) -> None:
        self._commits.check()
        check_space(self.path.parent)
        await self._commits.run(probe)

    def watch(self, listener: protocol.Listener) -> Callable[[], None]:
        return self._listeners.add(listener)

    async def _erase(self, work: Callable[[Transaction], tuple[int, References]]) -> int:
        """Do work in a transaction, then remove the files that it returns, even if the caller is cancelled."""

        async def erase() -> int:
            done, references = await self._commits.run(work)
            self._has_erased = self._has_erased or done > 0
            if references:
                await self._read.passed()  # a query under way may still see the rows
                await self._results.remove(references)
            return done

        erasing = asyncio.create_task(erase())
        self._erasing.add(erasing)
        erasing.add_done_callback(self._erasing.discard)
        _ignore_result(erasing)
        return await asyncio.shield(erasing)

    async def _find_running(self) -> dict[str, list[model.RunningAttempt]]:
        return await self._read(reads.find_running)

    def _micros(self) -> int:
        return to_micros(self._clock.now())

    async def _follow_clock(self) -> None:
        """Return once the stored times have followed the wall clock."""
        while self._clock_steps.is_behind:
            await self._commits.run(_nothing)

    def _end(
        self, lease: model.Lease, change: model.Transition, report: model.Report | None, *, at_close: bool = False
    ) -> asyncio.Future[bool]:
        work = functools.partial(attempts.complete, lease=lease, change=change, report=report)
        size = (0 if change.result is None else len(change.result)) + (0 if report is None else _size_of(report))
        return self._commits.run(work, size=size, at_close=at_close)

    def _committed(self, changes: list[model.Change]) -> None:
        self._clock_steps.committed()
        self._partitions.committed()
        started, abandoned = self._waiters.deliver()
        changes += started
        if changes:
            self._listeners.notify(changes)
        self._give_back(abandoned)
        self._settle_later()
        self._look_later()
        self._move_on()

    def _settle_later(self) -> None:
        """Settle, in further transactions, the dependants that were too many for one."""
        if self._partitions.unsettled and self._settling is None and self._opened:
            self._settling = asyncio.create_task(self._settle_rest())

    async def _settle_rest(self) -> None:
        try:
            while self._partitions.unsettled and self._opened:
                for other in await self._commits.run(settle_rest):
                    self._partitions.settled(other)
        except Unavailable as error:  # the next commit tries again
            _log.warning("store.dependants_not_settled", reason=error.detail)
        finally:
            self._settling = None

    def _give_back(self, claims: Sequence[model.Claim]) -> None:
        """Release claims whose caller was cancelled while they were being stored."""
        for claim in claims:
            transition = decide(Released(), claim, self._clock.now(), Random())  # noqa: S311
            _ignore_result(self._end(claim.lease, transition, None, at_close=True))

    def _rolled_back(self) -> None:
        self._clock_steps.rolled_back()
        self._partitions.forget()
        self._waiters.take_back()
        if self._waiters:
            self._schedule(_AFTER_A_FAULT)

    def _move_on(self) -> None:
        """Run the transactions that a step of the clock needs, even if there is no other work."""
        if self._clock_steps.is_moving and self._opened and not self._moving:
            self._moving = True
            self._loop.call_soon(self._move)

    def _move(self) -> None:
        self._moving = False
        if self._opened:
            _ignore_result(self._commits.run(_nothing))

    def _look_later(self) -> None:
        seconds = self._waiters.seconds_to_next()
        if seconds is not None:
            self._schedule(seconds)

    def _schedule(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._look)

    def _look_at_files(self) -> None:
        """Check the files regularly, so that a loss is noticed and logged while nothing is written."""
        self._next_look = self._loop.call_later(_LOOK_EVERY, self._look_at_files)
        self._commits.look()

    def _look(self) -> None:
        self._timer = None
        if self._opened and self._waiters:
            _ignore_result(self._commits.run(_nothing))


def _size_of(report: model.Report) -> int:
    """Return the bytes of the values of a report's steps."""
    return sum(len(step.value or b"") + len(step.secret_value or b"") for step in report.steps)


def _nothing(_: Transaction) -> None:
    """Do nothing: the transaction serves the waiting claims."""


def _ignore_result(future: asyncio.Future[Any]) -> None:
    """Keep the event loop from logging an error that no one awaits: GroupCommit has logged it."""
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
