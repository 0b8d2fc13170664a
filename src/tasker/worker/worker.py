"""The worker: claims tasks, has them run, keeps their leases alive and stores how they ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from random import Random
from typing import Any

import structlog
from msgspec import structs

from tasker.clock import Clock, Steps
from tasker.engines.protocol import ClaimRequest, Engine
from tasker.errors import Unavailable
from tasker.executor import Executor, Stop
from tasker.metrics import Metrics
from tasker.model import Change, Claim, Lease, PartitionStats, Report, Transition, WorkerInfo
from tasker.model.history import History
from tasker.release import LEVEL, release
from tasker.rules.lifecycle import Crashed, Failed, Interrupted, Outcome, Released, decide, problem
from tasker.rules.secrets import Erased, Scrubber, reveal
from tasker.tasktypes.registry import Registry
from tasker.worker.reports import Pace, ReportBuffer

_CLAIM_WAIT = timedelta(seconds=60)
"""How long one claim waits for a task before it asks again."""
_STORE_AGAIN = 0.5, 5.0
"""Seconds between tries to write while the store cannot: the first, and the longest."""
_END_WITHIN = timedelta(seconds=2)
"""How long given-up attempts have to end and be stored."""
_TREMOR = timedelta(seconds=1)
"""By so much an attempt's wall-clock times may differ from how long it ran."""
_BEHIND_AFTER = timedelta(seconds=10)
"""A due task that has waited so long beside a free slot means that the worker does not keep up."""

_log = structlog.get_logger(__name__)


Hold = Callable[[Claim], Awaitable[Outcome | None]]


class Lane:
    """A kind of room for attempts, and what may use it.

    A slot is free again when the function has ended; that its end is still being stored costs no room, unless the store
    is so slow that as many ends as there are slots wait for it.
    """

    def __init__(self, name: str, types: frozenset[str], slots: int, *, suspects: bool = False) -> None:
        self.name = name
        self.types = types
        self.slots = slots
        self.suspects = suspects
        self._running = 0
        self._storing = 0
        self._freed = asyncio.Event()

    @property
    def free(self) -> int:
        return self.slots - self._running - max(0, self._storing - self.slots)

    def begin(self) -> None:
        self._running += 1

    def end(self) -> None:
        """The function has ended; its end is about to be stored."""
        self._running -= 1
        self._storing += 1
        self._freed.set()

    def stored(self) -> None:
        self._storing -= 1
        self._freed.set()

    async def room(self) -> int:
        """Return the number of free slots once there is one."""
        while self.free < 1:
            self._freed.clear()
            await self._freed.wait()
        return self.free


class Running:
    """An attempt that this worker runs, since `begun` by the monotonic clock."""

    __slots__ = ("begun", "claim", "report", "scrubber", "stop")

    def __init__(self, claim: Claim, report: ReportBuffer, begun: float) -> None:
        self.begun = begun
        self.claim = claim
        self.report = report
        self.scrubber: Scrubber | None = None
        self.stop = Stop()


class Worker:
    """Runs tasks of the registry's types until it is drained.

    Three lanes, each claiming for itself: `async def` tasks share the loop (`slots`), `def` tasks have child processes
    (`processes`), and suspects (tasks that saw several ends of the service in a row) run one at a time, in a child.
    hold: asked before an attempt of a type that costs: how it ends instead of being run, None if it may run.
    max_output: bytes that an attempt may say, None for any number.
    """

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        executor: Executor,
        clock: Clock,
        metrics: Metrics,
        *,
        slots: int,
        processes: int,
        lease_for: timedelta,
        heartbeat_every: timedelta,
        random: Random,
        queues: Sequence[str] = (),
        history: History | None = None,
        hold: Hold | None = None,
        max_output: int | None = None,
    ) -> None:
        self.worker_id = f"{os.uname().nodename}-{os.getpid()}-{secrets.token_hex(3)}"
        self._engine = engine
        self._executor = executor
        self._clock = clock
        self._metrics = metrics
        self._history = history or History()
        self._lease_for = lease_for
        self._heartbeat_every = heartbeat_every
        self._random = random
        self._hold = hold
        self._max_output = max_output
        self._costs = frozenset(kind.name for kind in registry if kind.costs)
        on_loop = frozenset(kind.name for kind in registry if kind.is_async)
        in_child = frozenset(registry.names()) - on_loop
        self._with_secrets = {kind.name: kind.secrets for kind in registry if kind.secrets is not None}
        self._queues = tuple(queues) or None
        self._info = WorkerInfo(
            worker_id=self.worker_id, host=os.uname().nodename, pid=os.getpid(), version=release(), level=LEVEL,
            started_at=clock.now(), queues=self._queues, types=tuple(sorted(on_loop | in_child)), slots=slots,
            processes=processes, heartbeat_every=heartbeat_every,
        )  # fmt: skip
        self._news_lost = asyncio.Event()
        self._pace = Pace()
        self._lanes = [
            Lane("loop", on_loop, slots),
            Lane("children", in_child, processes),
            Lane("suspects", on_loop | in_child, 1, suspects=True),
        ]
        self._running: dict[Lease, Running] = {}
        self._attempts: set[asyncio.Task[None]] = set()
        self._claiming: list[asyncio.Task[None]] = []
        self._loops: list[asyncio.Task[None]] = []
        self._last_heartbeat = clock.monotonic()
        self._steps = Steps(clock)
        self._set_at: float | None = None
        self._unwatch: Callable[[], None] | None = None
        self._has_lost_ends = False

    @property
    def running(self) -> int:
        """How many attempts run."""
        return len(self._running)

    async def start(self) -> None:
        """Say who we are, then begin to claim."""
        await self._announce()
        self._unwatch = self._engine.watch(self._on_changes)
        self._last_heartbeat = self._clock.monotonic()
        self._claiming = [asyncio.create_task(self._claim_for(lane)) for lane in self._lanes if lane.types]
        self._loops = [*self._claiming, asyncio.create_task(self._keep_leases())]

    async def drain(self, within: timedelta, force: asyncio.Event) -> bool:
        """Stop claiming, let attempts end within the time (or until `force`), give the rest back. Idempotent.

        Return whether the end of every attempt was stored; a task whose end was not runs again.
        """
        await _cancel(self._claiming)
        self._info = structs.replace(self._info, draining=True)
        self._news_lost.set()  # the next heartbeat tells it, now
        if self._attempts:
            _log.info("worker.draining", running=len(self._running), seconds=within.total_seconds())
            await self._attempts_end(within, force)
        for running in self._running.values():
            running.stop.abandon(Released())
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=_END_WITHIN.total_seconds())
        if self._attempts:
            self._has_lost_ends = True
            _log.error("worker.ends_not_stored", attempts=len(self._attempts), detail="their tasks run again")
        await _cancel([*self._attempts, *self._loops])
        if self._loops:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_WITHIN.total_seconds()):
                    await self._withdraw()
        self._loops = []
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        return not self._has_lost_ends

    def health(self, lines: Sequence[PartitionStats]) -> dict[str, str]:
        """Tell whether the worker lives and keeps up: by name, "ok" or what is wrong."""
        return {"worker": self._alive(), "line": self._keeping_up(lines)}

    def _alive(self) -> str:
        if not self._loops or any(loop.done() for loop in self._loops):
            return "not running"
        silent = self._clock.monotonic() - self._last_heartbeat
        return "ok" if silent < self._lease_for.total_seconds() else f"no heartbeat for {silent:.0f} s"

    def _keeping_up(self, lines: Sequence[PartitionStats]) -> str:
        now, set_before = self._clock.now(), self._set_before()
        for line in lines:
            has_room = any(lane.free > 0 for lane in self._lanes if line.type in lane.types and not lane.suspects)
            waited = timedelta(0) if line.oldest_due_at is None else min(now - line.oldest_due_at, set_before)
            if has_room and waited > _BEHIND_AFTER:
                seconds = waited.total_seconds()
                return f"a {line.type} task of queue {line.queue} has waited {seconds:.0f} s beside free slots"
        return "ok"

    def _set_before(self) -> timedelta:
        """Return how long ago the wall clock was set, as far as is known: no task has waited longer by it."""
        step = self._steps.pending()
        if step:
            self._steps.follow(step)
            self._set_at = self._clock.elapsed()
        return timedelta(seconds=self._clock.elapsed() - self._set_at) if self._set_at is not None else timedelta.max

    async def _claim_for(self, lane: Lane) -> None:
        pause = _Pause()
        while True:
            room = await lane.room()
            request = ClaimRequest(
                worker=self.worker_id, types=lane.types, lease_for=self._lease_for,
                limit=0 if lane.suspects else room, suspects=room if lane.suspects else 0, queues=self._queues,
            )  # fmt: skip
            try:
                claims = await self._engine.claim(request, wait_for=_CLAIM_WAIT)
            except Unavailable as error:
                _log.warning("worker.cannot_claim", reason=error.detail)
                await pause.take()
                continue
            except Exception:  # a fault of ours, or of somebody's hand in the store: the lane must not end for it
                _log.exception("worker.cannot_claim", lane=lane.name)
                await pause.take()
                continue
            pause.reset()
            for claim in claims:
                self._begin(claim, lane)

    def _begin(self, claim: Claim, lane: Lane) -> None:
        lane.begin()
        report = ReportBuffer(
            self._engine, claim.lease, self._clock, claim.usage, self._pace, max_output=self._max_output
        )
        running = Running(claim, report, self._clock.monotonic())
        self._running[claim.lease] = running
        attempt = asyncio.create_task(self._run(running, lane))
        self._attempts.add(attempt)
        attempt.add_done_callback(self._attempts.discard)

    async def _run(self, running: Running, lane: Lane) -> None:
        claim = running.claim
        self._metrics.attempt_started(claim, claim.started_at)
        try:
            try:
                outcome = await self._outcome(running, isolate=lane.suspects)
            finally:
                lane.end()
            await self._complete(running, outcome)
        finally:
            del self._running[claim.lease]
            lane.stored()

    async def _outcome(self, running: Running, *, isolate: bool) -> Outcome:
        claim = running.claim
        try:
            if self._hold is not None and claim.type in self._costs and (held := await self._hold(claim)) is not None:
                return held
            if claim.type in self._with_secrets:
                claim = await self._reveal(running)
            return await self._executor.run(claim, running.report, running.stop, isolate=isolate)
        except Erased:
            return Failed(problem("secrets-erased", "its secret params are not here: submit the task again"))
        except Unavailable as error:  # the store, asked for secrets: the attempt has not begun
            _log.warning("worker.secrets_not_read", task_id=str(claim.task_id), reason=error.detail)
            return Released()
        except Exception as error:  # a fault of ours: the task must not hang for it, nor be tried for ever
            _log.exception("worker.executor_failed", task_id=str(claim.task_id), type=claim.type, attempt=claim.attempt)
            return Crashed(f"the executor failed: {error!r}")

    async def _reveal(self, running: Running) -> Claim:
        """Return the claim with its secret params; what it says is scrubbed of them. Raises Erased, Unavailable."""
        claim, places = running.claim, self._with_secrets[running.claim.type]
        found = await self._engine.secrets.find(claim.task_id)
        params = reveal(claim.params, found, places)
        if found is None:
            return claim
        running.scrubber = Scrubber(found)
        running.report.scrub = running.scrubber.report
        return structs.replace(claim, params=params, secrets=found)

    async def _complete(self, running: Running, outcome: Outcome) -> None:
        claim = running.claim
        report = await running.report.finish()
        transition = _timed(
            decide(outcome, claim, self._clock.now(), self._random), self._clock.monotonic() - running.begun
        )
        if running.report.peak is not None:
            transition = structs.replace(transition, peak_memory=running.report.peak)
        if running.scrubber is not None and transition.error is not None:
            transition = structs.replace(transition, error=running.scrubber.problem(transition.error))
        if await self._store(claim.lease, transition, report):
            self._metrics.attempt_ended(claim, transition)
            if transition.ending == "succeeded":
                self._history.note(claim.type, transition.at - transition.started_at)
            if running.scrubber is not None and transition.status.is_terminal:
                await self._erase_secrets(claim)
            if transition.error is not None:
                _log.warning(
                    "task.attempt_failed", task_id=str(claim.task_id), type=claim.type, attempt=claim.attempt,
                    ending=transition.ending, status=transition.status, detail=transition.error.detail,
                )  # fmt: skip
        else:
            _log.warning("task.attempt_superseded", task_id=str(claim.task_id), type=claim.type, attempt=claim.attempt)

    async def _erase_secrets(self, claim: Claim) -> None:
        """Erase what a task that has ended needs no more; where that fails now, a chore does it later."""
        try:
            await self._engine.secrets.erase([claim.task_id])
        except Unavailable as error:
            _log.info("worker.secrets_not_erased", task_id=str(claim.task_id), reason=error.detail)

    async def _store(self, lease: Lease, transition: Transition, report: Report | None) -> bool:
        """Store the end of an attempt; a store that cannot write now is asked again, for the work is done."""
        pause = _Pause()
        while True:
            try:
                return await self._engine.complete(lease, transition, report)
            except Unavailable as error:
                _log.warning("task.end_not_stored", task_id=str(lease.task_id), reason=error.detail)
                await pause.take()

    async def _keep_leases(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):  # not wait_for: Python 3.11's can swallow a cancellation
                async with asyncio.timeout(self._heartbeat_every.total_seconds()):
                    await self._news_lost.wait()
            self._news_lost.clear()
            try:
                await self.heartbeat()
            except Unavailable as error:
                _log.warning("worker.cannot_heartbeat", reason=error.detail)
            except Exception:  # as above: without heartbeats every lease would end
                _log.exception("worker.cannot_heartbeat")

    async def heartbeat(self) -> None:
        """Extend the leases of what runs; stop what is no longer ours, and what a client wants cancelled."""
        leases = list(self._running)
        if leases:
            beat = await self._engine.heartbeat(leases, self._lease_for)
            for lease in beat.lost & self._running.keys():
                self._running[lease].stop.abandon(Interrupted())
            for lease in beat.cancelled & self._running.keys():
                self._running[lease].stop.cancel()
        self._last_heartbeat = self._clock.monotonic()
        self._set_before()
        await self._announce()

    async def _announce(self) -> None:
        try:
            await self._engine.workers.announce(self._info)
        except Unavailable as error:
            _log.warning("worker.not_announced", reason=error.detail)

    async def _withdraw(self) -> None:
        try:
            await self._engine.workers.withdraw(self.worker_id)
        except Unavailable as error:
            _log.warning("worker.not_withdrawn", reason=error.detail)

    def _on_changes(self, changes: Sequence[Change]) -> None:
        """Hear of a cancel at once, not only with the next heartbeat; which comes at once where news may be lost."""
        if not changes:
            self._news_lost.set()
        for change in changes:
            if change.cancel_requested:
                for lease, running in self._running.items():
                    if lease.task_id == change.task_id:
                        running.stop.cancel()

    async def _attempts_end(self, within: timedelta, force: asyncio.Event) -> None:
        """Wait until every attempt has ended, the time is over, or somebody is in a force."""
        forced = asyncio.create_task(force.wait())
        deadline = self._clock.monotonic() + within.total_seconds()
        while self._attempts and not forced.done():
            left = deadline - self._clock.monotonic()
            if left <= 0:
                break
            await asyncio.wait({*self._attempts, forced}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        await _cancel([forced])


def _timed(change: Transition, ran: float) -> Transition:
    """Return the end of an attempt that ran for so many seconds, also where the wall clock was set meanwhile."""
    run_time = timedelta(seconds=ran)
    if abs(change.at - change.started_at - run_time) < _TREMOR:
        return change
    return structs.replace(change, started_at=change.at - run_time)


class _Pause:
    """Waits longer each time, until reset."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._seconds, self._longest = _STORE_AGAIN

    async def take(self) -> None:
        await asyncio.sleep(self._seconds)
        self._seconds = min(self._seconds * 2, self._longest)


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
