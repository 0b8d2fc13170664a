"""What workers write: claims, signs of life, words and ends of attempts, many in one transaction.

Heartbeats, words and ends of one process go through one lane, one transaction after the other: two that update the same
rows in different orders would deadlock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, TypeAlias

from msgspec import structs

from tasker.engines.postgres.limits import Gates, Limits
from tasker.engines.postgres.line import Line, Picked, wanted
from tasker.engines.postgres.promotion import promote
from tasker.engines.postgres.rows import claim_of, head_of
from tasker.engines.postgres.ties import End, Options
from tasker.engines.postgres.transaction import Transaction
from tasker.engines.protocol import ClaimRequest, Heartbeat
from tasker.engines.shared.journal import ended, logged, started
from tasker.engines.shared.log import Entry, Head, followed, numbered
from tasker.engines.shared.usage import Tally
from tasker.engines.shared.values import encode
from tasker.model import Change, Claim, Lease, Report, Status, TaskProblem, Transition
from tasker.release import LEVEL

OwnerTally: TypeAlias = Tally[tuple[str, str]]
"""Usage by owner and type; the day is the database's."""
_IN_ITS_WORDS = {Status.COMPLETED: "successful", Status.FAILED: "exception"}


class Words(NamedTuple):
    """What an attempt says, and its end if it ends."""

    lease: Lease
    report: Report | None
    change: Transition | None


class Beat(NamedTuple):
    """Leases of one worker, to be extended."""

    leases: Sequence[Lease]
    extend_by: timedelta


class _Held(NamedTuple):
    """A running attempt whose row this transaction holds."""

    seq: int
    job_id: int | None
    queue: str
    key: str | None
    cancelled: bool
    owner: str
    type: str
    usage: bytes
    head: Head


class Attempts:
    """The writes of attempts, on the tables of one schema."""

    def __init__(self, queries: dict[str, str], line: Line, limits: Limits, options: Options) -> None:
        self._queries = queries
        self._line = line
        self._limits = limits
        self._options = options

    async def claim(
        self, tx: Transaction, request: ClaimRequest, lines: Sequence[str]
    ) -> tuple[list[Claim], timedelta | None]:
        """Take due tasks out of the lines that may start; each begins its next attempt.

        Returns also how long until more may start, where a limit is all that keeps them.
        """
        ordinary, suspects = wanted(request, lines)
        gates = await self._limits.hold(tx, [*ordinary, *suspects])
        picked = []
        if suspects:
            picked += await self._take(tx, request.worker, suspects, request.suspects, gates)
        if ordinary:
            picked += await self._take(tx, request.worker, ordinary, request.limit, gates)
        if gates is not None:
            await self._limits.spend(tx, gates)
        held = [] if gates is None else list(gates.by_queue)
        claims = await self._start(tx, request, picked, held) if picked else []
        return claims, None if gates is None else gates.opens_in

    async def _take(
        self, tx: Transaction, worker: str, lines: Sequence[str], limit: int, gates: Gates | None
    ) -> list[Picked]:
        if gates is None:
            return await self._line.take(tx, worker, lines, limit)
        return await self._limits.take(tx, worker, lines, limit, gates)

    async def _start(
        self, tx: Transaction, request: ClaimRequest, picked: Sequence[Picked], held: list[str]
    ) -> list[Claim]:
        """Begin the attempts of what was taken. held: the queues whose gates this claim holds."""
        rows = await tx.fetch(
            self._queries["start_attempts"], [job.task_id for job in picked], [job.job_id for job in picked],
            request.worker, request.lease_for, held, LEVEL,
        )  # fmt: skip
        begun = {row["task_id"] for row in rows}
        left = [job for job in picked if job.task_id not in begun]
        if left:  # cancelled in this moment, past their deadline, or a person's hand
            await self._line.leave(tx, [(job.job_id, "deleted") for job in left])
            await self._options.fail_overdue(tx, len(left), [job.task_id for job in left])
            await self._limits.not_started(tx, [job.task_id for job in left])
            await tx.execute(self._queries["out_of_line"], [job.task_id for job in left])
        tx.journal += [started(row["task_id"], row["attempt"]) for row in rows]
        tx.changes += [Change(task_id, Status.RUNNING) for task_id in begun]
        rows.sort(key=lambda row: (-row["priority"], row["due_at"], row["seq"]))
        return [claim_of(row) for row in rows]

    async def write(self, tx: Transaction, items: Sequence[Words | Beat]) -> list[bool | Heartbeat]:
        """Store what attempts say, their ends and their signs of life; reply to each item in order."""
        beats = [item for item in items if isinstance(item, Beat)]
        words = [item for item in items if isinstance(item, Words)]
        extended = await self._extend(tx, beats)
        stored: dict[int, bool] = {}
        for some in _rounds(words):  # an attempt is ended once: a second end of it finds another status
            leases = await self._words(tx, some)
            stored |= {id(said): said.lease in leases for said in some}
        # Once for all of them: two transactions that hold the same queues in steps of their own might deadlock.
        await self._limits.freed(tx, tx.freed)
        return [_heartbeat(item, extended) if isinstance(item, Beat) else stored[id(item)] for item in items]

    async def _extend(self, tx: Transaction, beats: Sequence[Beat]) -> dict[Lease, bool]:
        """Extend leases; return those that are current, and whether their task is to be cancelled."""
        leases = sorted(
            ((lease.task_id, lease.attempt, beat.extend_by) for beat in beats for lease in beat.leases),
        )
        if not leases:
            return {}
        rows = await tx.fetch(self._queries["extend_leases"], *_columns(leases))
        await self._line.beat(tx, [row["job_id"] for row in rows if row["job_id"] is not None])
        return {Lease(row["task_id"], row["attempt"]): row["cancelled"] for row in rows}

    async def _words(self, tx: Transaction, words: Sequence[Words]) -> set[Lease]:
        """Store words and ends, one for each attempt; return the leases that were current."""
        plain = [said for said in words if said.report is None and _is_final(said.change)]
        others = [said for said in words if said.report is not None or not _is_final(said.change)]
        stored = await self._with_row(tx, others) if others else set()
        stored |= await self._end(tx, plain)
        if tx.is_retry:
            stored |= await self._was_ended(tx, [said for said in words if said.lease not in stored])
        return stored

    async def _with_row(self, tx: Transaction, words: Sequence[Words]) -> set[Lease]:
        """Store what needs the task's row first: words, and attempts that are followed by another."""
        leases = [(said.lease.task_id, said.lease.attempt) for said in words]
        rows = await tx.fetch(self._queries["lock_running"], *_columns(leases))
        held = {
            Lease(row["task_id"], row["attempt"]): _Held(
                row["seq"],
                row["job_id"],
                row["queue"],
                row["concurrency_key"],
                row["cancelled"],
                row["owner"],
                row["type"],
                row["usage"],
                head_of(row),
            )
            for row in rows
        }
        current = [said for said in words if said.lease in held]
        tally: OwnerTally = Tally()
        await self._report(tx, current, held, tally)
        await self._back_to_line(
            tx, tally,
            [said for said in current if _is_again(said.change) and not held[said.lease].cancelled], held,
        )  # fmt: skip
        ends = [
            said._replace(change=_cancelled(said.change)) if _is_again(said.change) else said
            for said in current
            if _is_final(said.change) or (_is_again(said.change) and held[said.lease].cancelled)
        ]
        await self._write_usage(tx, tally)
        await self._end(tx, ends)
        return {said.lease for said in current}

    async def _report(
        self, tx: Transaction, words: Sequence[Words], held: dict[Lease, _Held],
        tally: OwnerTally,
    ) -> None:  # fmt: skip
        """Store what attempts say; `held` then has the new ends of their logs, `tally` what they used up."""
        entries, states = [], []
        for said in words:
            if said.report is None or (tx.is_retry and await self._was_reported(tx, said, held)):
                continue
            row = held[said.lease]
            spoken = numbered(row.head, [(event.type, event.time, event.data) for event in said.report.events])
            if spoken:
                entries += [(row.seq, entry) for entry in spoken]
                tx.journal.append(logged(said.lease.task_id, spoken))
                held[said.lease] = row._replace(head=row.head._replace(kept=spoken[-1].sequence))
            progress = None if said.report.progress is None else encode(said.report.progress)
            if progress is not None or said.report.usage is not None:
                states.append((row.seq, progress, said.report.usage))
            if said.report.usage is not None:
                tally.use((row.owner, row.type), row.usage, said.report.usage)
            if said.change is None:
                tx.changes.append(Change(said.lease.task_id, Status.RUNNING, spoke=True))
        await keep(tx, self._queries, entries)
        if states:
            await tx.execute(self._queries["set_words"], *_columns(states))

    async def _was_reported(self, tx: Transaction, said: Words, held: dict[Lease, _Held]) -> bool:
        """Tell whether an earlier try, whose answer was lost, has stored these words."""
        if said.report is None or not said.report.events:
            return False
        last = said.report.events[-1]
        query = self._queries["last_event"]
        row = await tx.fetchrow(query, held[said.lease].seq, said.lease.attempt)
        return row is not None and (row["time"], row["data"]) == (last.time, last.data)

    async def _back_to_line(
        self, tx: Transaction, tally: OwnerTally, words: Sequence[Words], held: dict[Lease, _Held]
    ) -> None:
        if not words:
            return
        entries, kept, again, jobs = [], [], [], []
        for said in words:
            change, row = said.change, held[said.lease]
            assert change is not None
            error, delay = _error(change.error), (change.run_at or change.at) - change.at
            log = followed(row.head, change, change.at)
            tally.end((row.owner, row.type), change)
            entries += [(row.seq, entry) for entry in log]
            tx.journal.append(logged(said.lease.task_id, log[-1:]))
            kept.append((row.seq, change.ending, error, change.peak_memory))
            again.append((
                row.seq, change.reason, delay, change.tries, change.crashes, change.interruptions, error,
                log[-1].sequence,
            ))  # fmt: skip
            jobs.append((row.job_id, "canceled"))
        await keep(tx, self._queries, entries)
        await tx.execute(self._queries["keep_attempts"], *_columns(kept))
        await tx.execute(self._queries["back_to_line"], *_columns(again))
        await self._line.leave(tx, _known(jobs))
        tx.freed += [(row.queue, row.owner, row.key) for row in (held[said.lease] for said in words)]
        await promote(tx, self._queries, self._line)
        tx.changes += [Change(said.lease.task_id, Status.PENDING) for said in words]

    async def _end(self, tx: Transaction, words: Iterable[Words]) -> set[Lease]:
        """Store ends for good; return the leases that were current."""
        ends = {said.lease: said.change for said in words if said.change is not None}
        if not ends:
            return set()
        values = [
            (
                lease.task_id, lease.attempt, change.status.value, change.ending, change.tries, change.crashes,
                change.result, _error(change.error), change.peak_memory,
            )
            for lease, change in sorted(ends.items(), key=lambda end: end[0].task_id)
        ]  # fmt: skip
        rows = await tx.fetch(self._queries["end_attempts"], *_columns(values), tx.sender)
        jobs = {row["task_id"]: row["job_id"] for row in rows}
        stored = {lease: change for lease, change in ends.items() if lease.task_id in jobs}
        await self._line.leave(
            tx,
            _known(
                (jobs[lease.task_id], _IN_ITS_WORDS.get(change.status, "canceled")) for lease, change in stored.items()
            ),
        )
        tx.freed += [(row["queue"], row["owner"], row["concurrency_key"]) for row in rows]
        tx.journal += [ended(lease.task_id, change.status, lease.attempt) for lease, change in stored.items()]
        tx.changes += [Change(lease.task_id, change.status) for lease, change in stored.items()]
        awaited = {row["task_id"] for row in rows if row["has_dependants"]}
        if awaited:
            others = [(lease.task_id, change) for lease, change in stored.items() if lease.task_id in awaited]
            await self._options.settle_dependants(
                tx, [End(task_id, change.status, change.error) for task_id, change in others]
            )
        return set(stored)

    async def _write_usage(self, tx: Transaction, tally: OwnerTally) -> None:
        """Add usage to this process's own rows: one transaction of it at a time does so, and waits for no other."""
        if rows := tally.take():
            await tx.execute(self._queries["add_usage"], tx.sender, *_columns(rows))

    async def _was_ended(self, tx: Transaction, words: Sequence[Words]) -> set[Lease]:
        ends = [
            (said.lease.task_id, said.lease.attempt, said.change.ending) for said in words if said.change is not None
        ]
        rows = await tx.fetch(self._queries["was_ended"], *_columns(ends)) if ends else []
        return {Lease(row["task_id"], row["attempt"]) for row in rows}


async def keep(tx: Transaction, queries: dict[str, str], entries: Sequence[tuple[int, Entry]]) -> None:
    """Add entries to the logs of tasks, each with its task's `seq`; their rows must be held."""
    if entries:
        await tx.execute(queries["insert_events"], *_columns([(seq, *entry) for seq, entry in entries]))


def _heartbeat(beat: Beat, extended: dict[Lease, bool]) -> Heartbeat:
    lost = {lease for lease in beat.leases if lease not in extended}
    return Heartbeat(lost, {lease for lease in beat.leases if extended.get(lease)})


def _rounds(words: Sequence[Words]) -> list[list[Words]]:
    """Return the words in rounds of one for each attempt, so that those of one keep their order."""
    rounds: list[list[Words]] = []
    count: dict[Lease, int] = {}
    for said in words:
        number = count[said.lease] = count.get(said.lease, -1) + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(said)
    return rounds


def _is_final(change: Transition | None) -> bool:
    return change is not None and change.status is not Status.PENDING


def _is_again(change: Transition | None) -> bool:
    return change is not None and change.status is Status.PENDING


def _cancelled(change: Transition | None) -> Transition:
    """A request to cancel wins over another attempt."""
    assert change is not None
    return structs.replace(change, status=Status.CANCELLED, run_at=None, reason=None)


def _error(error: TaskProblem | None) -> bytes | None:
    return None if error is None else encode(error)


def _known(jobs: Iterable[tuple[int | None, str]]) -> list[tuple[int, str]]:
    return [(job_id, status) for job_id, status in jobs if job_id is not None]


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
