"""Claims: find the partitions with queued tasks, take the tasks that may start, and wait while there are none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from random import SystemRandom
from typing import Any

import structlog

from tasker.engines.postgres.clock_steps import DatabaseSteps
from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.jobs import PROMOTED_AT_ONCE, Jobs, Picked
from tasker.engines.postgres.limits import Gates, Limits
from tasker.engines.postgres.parking import Parking
from tasker.engines.postgres.partitions import at_level, wanted
from tasker.engines.postgres.rows import claim_of
from tasker.engines.postgres.ties import TiedTasks
from tasker.engines.postgres.transaction import Transaction
from tasker.engines.postgres.waiters import (
    LOOKED_AT_ONCE,
    Found,
    Look,
    Patience,
    Polls,
    Rests,
    Waiter,
    Waiters,
    Window,
    earliest,
    seconds_to_look,
    set_within,
    soon,
)
from tasker.engines.protocol import ClaimRequest
from tasker.engines.shared.journal import started
from tasker.errors import Unavailable
from tasker.model import Change, Claim, Status
from tasker.release import LEVEL, LIMITS

Claimed = tuple[list[Claim], timedelta | None]
"""Claims, and the time until more may be possible; None if only a notification can tell.

A claim that took fewer tasks than it asked for has left what others had locked: more may be possible soon.
"""

_LOOK_AGAIN = timedelta(seconds=0.2)
"""Time until the next look while waiting tasks are held back because the database's clock was set."""
_log = structlog.get_logger(__name__)


class Starts:
    """Starts attempts, on the tables of one schema."""

    def __init__(self, queries: dict[str, str], jobs: Jobs, limits: Limits, parking: Parking, ties: TiedTasks) -> None:
        self._queries = queries
        self._jobs = jobs
        self._limits = limits
        self._parking = parking
        self._ties = ties

    async def claim(self, tx: Transaction, request: ClaimRequest, partitions: Sequence[str]) -> Claimed:
        """Take due tasks of these partitions that may start; each begins its next attempt."""
        ordinary, suspects = wanted(request, partitions)
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
        self, tx: Transaction, worker: str, partitions: Sequence[str], limit: int, gates: Gates | None
    ) -> list[Picked]:
        if gates is None:
            return await self._jobs.take(tx, worker, partitions, limit)
        return await self._limits.take(tx, worker, partitions, limit, gates)

    async def _start(
        self, tx: Transaction, request: ClaimRequest, picked: Sequence[Picked], held: list[str]
    ) -> list[Claim]:
        """Begin the attempts of picked jobs. held: the queues whose settings this claim has locked."""
        task_ids, job_ids = [job.task_id for job in picked], [job.job_id for job in picked]
        rows = await tx.fetch(
            self._queries["start_attempts"], task_ids, job_ids, request.worker, request.lease_for, held, LEVEL
        )
        begun = {row["task_id"] for row in rows}
        left = [job for job in picked if job.task_id not in begun]
        if left:  # just cancelled, past their deadline, or inserted by hand
            left_ids = [job.task_id for job in left]
            await self._jobs.remove(tx, [(job.job_id, "deleted") for job in left])
            await self._ties.fail_overdue(tx, len(left), left_ids)
            await self._parking.not_started(tx, left_ids)
            await tx.execute(self._queries["unqueue"], left_ids)
        tx.journal += [started(row["task_id"], row["attempt"]) for row in rows]
        tx.changes += [Change(task_id, Status.RUNNING) for task_id in begun]
        rows.sort(key=lambda row: (-row["priority"], row["due_at"], row["seq"]))
        return [claim_of(row) for row in rows]


class Claims:
    """The claims of this process.

    saw_lead: see PostgresLead.saw. give_back: releases a claim whose caller has gone. is_deaf: tells whether
    notifications cannot arrive now.
    """

    def __init__(
        self,
        connections: Connections,
        queries: dict[str, str],
        jobs: Jobs,
        starts: Starts,
        limits: Limits,
        steps: DatabaseSteps,
        waiters: Waiters,
        saw_lead: Callable[[timedelta], None],
        *,
        give_back: Callable[[Claim], Awaitable[Any]],
        is_deaf: Callable[[], bool],
    ) -> None:
        self._connections = connections
        self._queries = queries
        self._jobs = jobs
        self._starts = starts
        self._limits = limits
        self._steps = steps
        self._waiters = waiters
        self._saw_lead = saw_lead
        self._give_back = give_back
        self._is_deaf = is_deaf
        self._patience = Patience(SystemRandom())
        self._polls = Polls()
        self._rests = Rests()
        self._vain = 0
        """Claims in succession that found nothing where a look had found something."""
        self._windows: dict[tuple[Any, ...], Window] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def claim(self, request: ClaimRequest, wait_for: timedelta) -> list[Claim]:
        """Claim tasks. If none may start, wait for the first one, at most `wait_for`."""
        deadline = asyncio.get_running_loop().time() + wait_for.total_seconds()
        waiter = self._waiters.join(request)
        try:
            rest = min(self._rests.left(request, self._waiters.heard), wait_for.total_seconds())
            is_one_of_many = await self._pause(waiter, rest)
            while True:
                named = waiter.begin_look()
                heard = self._waiters.heard
                claims, next_in = await self._shielded(self._look_and_claim(request, waiter, named))
                if is_one_of_many:
                    self._patience.found(bool(claims))
                left = deadline - asyncio.get_running_loop().time()
                if claims:
                    self._rests.begin(request, len(claims), heard, next_in)
                if claims or left <= 0 or self._closed:
                    return claims
                is_one_of_many = await self._pause(waiter, min(left, self._seconds(next_in)))
        finally:
            self._waiters.leave(waiter)

    def _seconds(self, next_in: timedelta | None) -> float:
        """Return how long a claim may sleep. next_in: time until more may be possible."""
        seconds = seconds_to_look(next_in, is_deaf=self._is_deaf())
        if next_in is not None and next_in.total_seconds() <= seconds:
            return seconds
        return self._polls.pause(seconds, asyncio.get_running_loop().time())

    async def _pause(self, waiter: Waiter, seconds: float) -> bool:
        """Wait until a claim is woken, at most so long; return whether it was woken with many others.

        Then it lets others go first for a moment, unless it is chosen meanwhile.
        """
        if seconds <= 0:
            return False
        is_one_of_many = await set_within(waiter.woken, seconds) and not waiter.chosen.is_set()
        if is_one_of_many and not self._closed:
            await set_within(waiter.chosen, self._patience.seconds())
        return is_one_of_many

    async def close(self) -> None:
        """Make waiting claims return, and finish the transactions under way."""
        self._closed = True
        self._waiters.wake_all()
        while self._running:
            await asyncio.wait(self._running)

    async def look(self, window: Window, *, again: bool = True) -> Found:
        """Return the window's partitions with queued tasks, and the time until the next scheduled task is due."""
        asked = self._steps.asking()
        row = await self._connections.repeat(
            lambda connection: connection.fetchrow(self._queries["look"], window.after, LOOKED_AT_ONCE)
        )
        assert row is not None
        self._saw_lead(row["lead_left"])
        self._limits.load(row["settings"])
        was_set = await self._steps.see(asked, row["now"], row["steps"])
        if was_set and again:
            return await self.look(window, again=False)
        if row["is_moving"]:
            self._steps.move_on()
        if was_set or row["is_moving"]:
            return Found(row["partitions"], _LOOK_AGAIN)
        next_due: datetime | None = row["next_due"]
        return Found(row["partitions"], None if next_due is None else next_due - row["now"])

    async def _look_at_first(self, waiter: Waiter) -> Found:
        """Look at the first partitions, unless another claim of this process has just begun to do so."""
        now, heard = asyncio.get_running_loop().time(), self._waiters.heard
        look = self._polls.latest(heard, now, waiter.look)
        if look is None:
            look = Look(now, heard, self._start(self.look(Window())))
            self._polls.begin(look)
        waiter.look = look
        return await look.found

    async def _look_and_claim(self, request: ClaimRequest, waiter: Waiter, named: Sequence[str]) -> Claimed:
        """Claim tasks. named: the partitions with new tasks that the claim was chosen for."""
        window = self._window_of(request)
        known_for = window.known_for(asyncio.get_running_loop().time())
        if not named or known_for is None or any(map(self._limits.has_gate, named)):
            return await self._claim_after_look(request, window, waiter)
        # All others were looked at a short while ago. What others have taken by now is theirs.
        claims, _ = await self._claim_from(request, named, known_for)
        return claims, known_for

    async def _claim_after_look(self, request: ClaimRequest, window: Window, waiter: Waiter) -> Claimed:
        began = window.after
        partitions, next_in = await (self.look(window) if began else self._look_at_first(waiter))
        if next_in is not None and next_in <= timedelta(0):
            limit = max(PROMOTED_AT_ONCE, request.limit)
            await self._connections.transact(lambda tx: self._jobs.promote(tx, limit=limit))
            partitions, next_in = await self.look(window)
        window.move(partitions)
        window.looked(next_in, asyncio.get_running_loop().time())
        claims, again_in = await self._claim_from(request, await self._lifted(partitions), next_in)
        is_done = window.is_done(bool(claims)) or (claims and not began and not window.after)
        return claims, again_in if is_done else timedelta(0)

    async def _lifted(self, partitions: Sequence[str]) -> Sequence[str]:
        """Move jobs that older processes queued to the partitions of workers that obey limits.

        Return the partitions with queued tasks after that.
        """
        older = self._limits.to_lift(partitions)
        if not older:
            return partitions
        await self._connections.transact(lambda tx: self._limits.lift(tx, older))
        return list(dict.fromkeys([*partitions, *(at_level(partition, LIMITS) for partition in older)]))

    async def _claim_from(self, request: ClaimRequest, partitions: Sequence[str], next_in: timedelta | None) -> Claimed:
        """Claim tasks of these partitions."""
        open_ones = self._limits.open_partitions(partitions)
        ordinary, suspects = wanted(request, open_ones)
        if not ordinary and not suspects:
            return [], next_in
        partitions = [*ordinary, *suspects]
        claims, opens_in = await self._connections.transact(lambda tx: self._starts.claim(tx, request, open_ones))
        self._vain = 0 if claims else self._vain + 1
        if claims:  # a gate may open at any time
            has_gates = any(map(self._limits.has_gate, partitions))
            return claims, timedelta(0) if has_gates else soon(next_in, partitions)
        if self._limits.gate_all(partitions):
            return [], earliest(next_in, opens_in)
        return [], earliest(soon(next_in, partitions, self._vain), opens_in)

    def _window_of(self, request: ClaimRequest) -> Window:
        queues = None if request.queues is None else frozenset(request.queues)
        return self._windows.setdefault((frozenset(request.types), queues, request.suspects > 0), Window())

    async def _shielded(self, claiming: Coroutine[Any, Any, Claimed]) -> Claimed:
        """Await a claim. If the caller is cancelled meanwhile, give back the tasks that it took."""
        task = self._start(claiming)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._start(self._return_claims(task))
            raise

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run work that `close` waits for."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _return_claims(self, claiming: asyncio.Task[Claimed]) -> None:
        try:
            claims, _ = await claiming
            for claim in claims:
                await self._give_back(claim)
        except Unavailable as error:
            _log.warning("store.claims_not_given_back", reason=error.detail)
