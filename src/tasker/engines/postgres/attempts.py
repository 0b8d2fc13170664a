"""Writes of running attempts: heartbeats, reports and ends, many in one transaction.

Each process makes these transactions one after the other: two that update the same rows in different orders would
deadlock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, TypeAlias

from msgspec import structs

from tasker.engines.postgres.failures import Failure, note_failures
from tasker.engines.postgres.jobs import Jobs
from tasker.engines.postgres.parking import Parking
from tasker.engines.postgres.rows import head_of
from tasker.engines.postgres.stored_steps import Reported, StoredSteps
from tasker.engines.postgres.ties import End, TiedTasks
from tasker.engines.postgres.transaction import Transaction
from tasker.engines.protocol import Heartbeat
from tasker.engines.shared.journal import ended, logged
from tasker.engines.shared.log import Entry, Head, followed, numbered
from tasker.engines.shared.steps import TRIED
from tasker.engines.shared.usage import Tally
from tasker.engines.shared.values import encode, encode_problem
from tasker.model import Change, Lease, Reason, Report, Status, Transition

OwnerTally: TypeAlias = Tally[tuple[str, str]]
"""Usage by owner and type; the day is the database's."""
_NO_TIME = timedelta(0)
_PGQUEUER_STATUS = {Status.COMPLETED: "successful", Status.FAILED: "exception"}


class Update(NamedTuple):
    """What an attempt reports, and its end if it ends."""

    lease: Lease
    report: Report | None
    change: Transition | None

    @property
    def is_final(self) -> bool:
        """Whether it ends the task."""
        return self.change is not None and self.change.status is not Status.PENDING

    @property
    def is_again(self) -> bool:
        """Whether it ends the attempt, and another one follows."""
        return self.change is not None and self.change.status is Status.PENDING


class Beat(NamedTuple):
    """A heartbeat: leases of one worker to extend."""

    leases: Sequence[Lease]
    extend_by: timedelta


class _Held(NamedTuple):
    """A running attempt whose row this transaction has locked."""

    seq: int
    job_id: int | None
    queue: str
    key: str | None
    cancelled: bool
    owner: str
    type: str
    usage: bytes
    awaited: bool
    waiter: str | None
    has_dependants: bool
    head: Head


class Attempts:
    """The writes of attempts, on the tables of one schema."""

    def __init__(
        self, queries: dict[str, str], jobs: Jobs, parking: Parking, ties: TiedTasks, steps: StoredSteps
    ) -> None:
        self._queries = queries
        self._jobs = jobs
        self._parking = parking
        self._ties = ties
        self._steps = steps

    async def write(self, tx: Transaction, items: Sequence[Update | Beat]) -> list[bool | Heartbeat]:
        """Store updates and extend leases; return a reply to each item, in order."""
        beats = [item for item in items if isinstance(item, Beat)]
        updates = [item for item in items if isinstance(item, Update)]
        extended = await self._extend(tx, beats)
        stored: dict[int, bool] = {}
        for some in _rounds(updates):  # an attempt ends only once: a second end of it finds another status
            leases = await self._store(tx, some)
            stored |= {id(update): update.lease in leases for update in some}
        # Once for all of them: two transactions that each lock the same queues in several steps might deadlock.
        await self._parking.freed(tx, tx.freed)
        return [_heartbeat(item, extended) if isinstance(item, Beat) else stored[id(item)] for item in items]

    async def _extend(self, tx: Transaction, beats: Sequence[Beat]) -> dict[Lease, bool]:
        """Extend leases; return the current ones, each with whether its task is to be cancelled."""
        leases = sorted(
            ((lease.task_id, lease.attempt, beat.extend_by) for beat in beats for lease in beat.leases),
        )
        if not leases:
            return {}
        rows = await tx.fetch(self._queries["extend_leases"], *_columns(leases))
        await self._jobs.beat(tx, [row["job_id"] for row in rows if row["job_id"] is not None])
        return {Lease(row["task_id"], row["attempt"]): row["cancelled"] for row in rows}

    async def _store(self, tx: Transaction, updates: Sequence[Update]) -> set[Lease]:
        """Store updates, one for each attempt; return the leases that were current."""
        plain = [update for update in updates if update.report is None and update.is_final]
        others = [update for update in updates if update.report is not None or not update.is_final]
        stored = await self._store_with_row(tx, others) if others else set()
        stored |= await self._end(tx, plain)
        if tx.is_retry:
            stored |= await self._was_ended(tx, [update for update in updates if update.lease not in stored])
        return stored

    async def _store_with_row(self, tx: Transaction, updates: Sequence[Update]) -> set[Lease]:
        """Store what needs the task's row first: reports, and attempts that are followed by another."""
        held = await self._hold(tx, updates)
        current = [update for update in updates if update.lease in held]
        tally: OwnerTally = Tally()
        await self._report(tx, current, held, tally)
        again = [update for update in current if update.is_again and not held[update.lease].cancelled]
        await self._requeue(tx, again, held, tally)
        ends = [
            update._replace(change=_cancelled(update.change)) if update.is_again else update
            for update in current
            if update.is_final or (update.is_again and held[update.lease].cancelled)
        ]
        await self._write_usage(tx, tally)
        await self._end(tx, ends)
        return {update.lease for update in current}

    async def _hold(self, tx: Transaction, updates: Sequence[Update]) -> dict[Lease, _Held]:
        """Lock the rows of the running ones of these attempts, and return them."""
        leases = [(update.lease.task_id, update.lease.attempt) for update in updates]
        rows = await tx.fetch(self._queries["lock_running"], *_columns(leases))
        return {
            Lease(row["task_id"], row["attempt"]): _Held(
                seq=row["seq"],
                job_id=row["job_id"],
                queue=row["queue"],
                key=row["concurrency_key"],
                cancelled=row["cancelled"],
                owner=row["owner"],
                type=row["type"],
                usage=row["usage"],
                awaited=row["awaited"],
                waiter=row["waiter"],
                has_dependants=row["has_dependants"],
                head=head_of(row),
            )
            for row in rows
        }

    async def _report(
        self, tx: Transaction, updates: Sequence[Update], held: dict[Lease, _Held], tally: OwnerTally
    ) -> None:
        """Store reports; `held` then has the new ends of the logs, `tally` the usage."""
        entries, states = [], []
        await self._steps.put(
            tx,
            [
                Reported(held[update.lease].seq, update.lease.attempt, held[update.lease].owner, update.report.steps)
                for update in updates
                if update.report is not None and update.report.steps
            ],
        )
        for update in updates:
            report = update.report
            if report is None or (tx.is_retry and await self._was_reported(tx, report, update.lease, held)):
                continue
            row = held[update.lease]
            new = numbered(row.head, [(event.type, event.time, event.data) for event in report.events])
            if new:
                entries += [(row.seq, entry) for entry in new]
                tx.journal.append(logged(update.lease.task_id, new))
                held[update.lease] = row._replace(head=row.head._replace(kept=new[-1].sequence))
            progress = None if report.progress is None else encode(report.progress)
            if progress is not None or report.usage is not None:
                states.append((row.seq, progress, report.usage))
            if report.usage is not None:
                tally.use((row.owner, row.type), row.usage, report.usage)
            if update.change is None:
                tx.changes.append(Change(update.lease.task_id, Status.RUNNING, spoke=True))
                tx.tell_of(update.lease.task_id, awaited=row.awaited, waiter=row.waiter)
        await insert_events(tx, self._queries, entries)
        if states:
            await tx.execute(self._queries["set_progress"], *_columns(states))

    async def _was_reported(self, tx: Transaction, report: Report, lease: Lease, held: dict[Lease, _Held]) -> bool:
        """Return whether an earlier try, whose answer was lost, has stored this report."""
        if not report.events:
            return False
        last = report.events[-1]
        row = await tx.fetchrow(self._queries["last_event"], held[lease].seq, lease.attempt)
        return row is not None and (row["time"], row["data"]) == (last.time, last.data)

    async def _requeue(
        self, tx: Transaction, updates: Sequence[Update], held: dict[Lease, _Held], tally: OwnerTally
    ) -> None:
        """Make tasks pending for another attempt, and store the one that ends."""
        if not updates:
            return
        entries, ends, tasks, jobs = [], [], [], []
        for update in updates:
            change, row = update.change, held[update.lease]
            assert change is not None
            error = encode_problem(change.error)
            reason, delay = _next(change)
            log = followed(row.head, change, change.at)
            tally.end((row.owner, row.type), change)
            entries += [(row.seq, entry) for entry in log]
            tx.journal.append(logged(update.lease.task_id, log[-1:]))
            tx.freed.append((row.queue, row.owner, row.key))
            tx.changes.append(Change(update.lease.task_id, Status.PENDING))
            ends.append((row.seq, change.ending, error, change.peak_memory))
            counts = change.tries, change.crashes, change.interruptions
            tasks.append((row.seq, reason, delay, *counts, error, log[-1].sequence))
            jobs.append((row.job_id, "canceled"))
            if change.wait is not None:
                tx.family.parked[row.seq] = change.wait
                if delay == _NO_TIME:
                    tx.family.note_present(row.seq, is_awaited=True)
            elif row.has_dependants and change.ending in TRIED:
                tx.family.retried.add(row.seq)
        await insert_events(tx, self._queries, entries)
        await tx.execute(self._queries["keep_attempts"], *_columns(ends))
        await tx.execute(self._queries["requeue"], *_columns(tasks))
        await self._jobs.remove(tx, _known(jobs))
        await self._jobs.promote(tx)

    async def _end(self, tx: Transaction, updates: Iterable[Update]) -> set[Lease]:
        """Store ends of tasks; return the leases that were current."""
        ends = {update.lease: update.change for update in updates if update.change is not None}
        if not ends:
            return set()
        values = [_end_row(*end) for end in sorted(ends.items(), key=lambda end: end[0].task_id)]
        rows = await tx.fetch(self._queries["end_attempts"], *_columns(values), tx.sender)
        jobs = {row["task_id"]: row["job_id"] for row in rows}
        stored = {lease: change for lease, change in ends.items() if lease.task_id in jobs}
        statuses = [
            (jobs[lease.task_id], _PGQUEUER_STATUS.get(change.status, "canceled")) for lease, change in stored.items()
        ]
        await self._jobs.remove(tx, _known(statuses))
        tx.freed += [(row["queue"], row["owner"], row["concurrency_key"]) for row in rows]
        tx.journal += [ended(lease.task_id, change.status, lease.attempt) for lease, change in stored.items()]
        tx.changes += [Change(lease.task_id, change.status) for lease, change in stored.items()]
        for row in rows:
            tx.tell_of(row["task_id"], awaited=row["awaited"], waiter=row["waiter"])
        await note_failures(
            tx,
            self._queries,
            {
                lease.task_id: Failure(change.owner, change.type, change.error)
                for lease, change in stored.items()
                if change.status is Status.FAILED and change.error is not None
            },
        )
        with_dependants = {row["task_id"]: row["seq"] for row in rows if row["has_dependants"]}
        if with_dependants:
            others = [(lease.task_id, change) for lease, change in stored.items() if lease.task_id in with_dependants]
            await self._ties.settle_dependants(
                tx, [End(task_id, change.status, change.error, with_dependants[task_id]) for task_id, change in others]
            )
        return set(stored)

    async def _write_usage(self, tx: Transaction, tally: OwnerTally) -> None:
        """Add usage to this process's own rows. One of its transactions does so at a time: none waits for a lock."""
        if rows := tally.take():
            await tx.execute(self._queries["add_usage"], tx.sender, *_columns(rows))

    async def _was_ended(self, tx: Transaction, updates: Sequence[Update]) -> set[Lease]:
        """Return the leases that an earlier try, whose answer was lost, has ended in the same way."""
        ends = [
            (update.lease.task_id, update.lease.attempt, update.change.ending)
            for update in updates
            if update.change is not None
        ]
        rows = await tx.fetch(self._queries["was_ended"], *_columns(ends)) if ends else []
        return {Lease(row["task_id"], row["attempt"]) for row in rows}


async def insert_events(tx: Transaction, queries: dict[str, str], entries: Sequence[tuple[int, Entry]]) -> None:
    """Add entries to the logs of tasks, each with its task's `seq`; the tasks' rows must be locked."""
    if entries:
        await tx.execute(queries["insert_events"], *_columns([(seq, *entry) for seq, entry in entries]))


def _heartbeat(beat: Beat, extended: dict[Lease, bool]) -> Heartbeat:
    lost = {lease for lease in beat.leases if lease not in extended}
    return Heartbeat(lost, {lease for lease in beat.leases if extended.get(lease)})


def _rounds(updates: Sequence[Update]) -> list[list[Update]]:
    """Split the updates into rounds with at most one per attempt, which keep the order of each attempt's updates."""
    rounds: list[list[Update]] = []
    count: dict[Lease, int] = {}
    for update in updates:
        number = count[update.lease] = count.get(update.lease, -1) + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(update)
    return rounds


def _cancelled(change: Transition | None) -> Transition:
    """Return the transition to `cancelled`, which replaces another attempt: a requested cancel wins."""
    assert change is not None
    return structs.replace(change, status=Status.CANCELLED, run_at=None, reason=None)


def _next(change: Transition) -> tuple[Reason, timedelta | None]:
    """Return why a task is pending from now on, and how long it waits; None: for others."""
    reason, delay = change.reason or "queued", (change.run_at or change.at) - change.at
    if change.wait is None:
        return reason, delay
    return reason, None if change.run_at is None else delay


def _end_row(lease: Lease, change: Transition) -> tuple[Any, ...]:
    counts = change.tries, change.crashes
    outcome = change.result, encode_problem(change.error), change.peak_memory
    return lease.task_id, lease.attempt, change.status.value, change.ending, *counts, *outcome


def _known(jobs: Iterable[tuple[int | None, str]]) -> list[tuple[int, str]]:
    return [(job_id, status) for job_id, status in jobs if job_id is not None]


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
