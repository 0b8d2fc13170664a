"""The worker: claims tasks as slots become free, has them run, and drains at the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import structlog

from tasker.clock import Clock
from tasker.engines.protocol import ClaimRequest, Engine
from tasker.errors import Unavailable
from tasker.executor.attempt import Stop
from tasker.model import Claim, Lease, PartitionStats, Transition, WorkerInfo
from tasker.release import LEVEL, release
from tasker.rules.lifecycle import Released
from tasker.tasktypes.registry import Registry
from tasker.worker.attempts import AttemptRunner
from tasker.worker.leases import Leases
from tasker.worker.outages import Backoff
from tasker.worker.slot_pools import Backlog, SlotPool

_CLAIM_WAIT = timedelta(seconds=60)
"""How long one claim waits for a task before it asks again."""
_END_WITHIN = timedelta(seconds=2)
"""How long abandoned attempts may take to end and be stored."""

_log = structlog.get_logger(__name__)


class Worker:
    """Runs tasks of the registry's types until it is drained.

    Three slot pools, each claiming for itself: `async def` tasks share the loop (`slots`), `def` tasks have child
    processes (`processes`), and suspects (tasks that saw several ends of the service in a row) run one at a time, in a
    child of their own. lease_for: how long a lease lasts without a heartbeat. queues: to claim from; empty for all.
    """

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        runner: AttemptRunner,
        clock: Clock,
        *,
        slots: int,
        processes: int,
        lease_for: timedelta,
        heartbeat_every: timedelta,
        queues: Sequence[str] = (),
    ) -> None:
        self._engine = engine
        self._runner = runner
        self._clock = clock
        self._lease_for = lease_for
        self._queues = tuple(queues) or None
        self._pools = _make_pools(registry, slots, processes)
        self._backlog = Backlog(clock, self._pools)
        host = os.uname().nodename
        self.worker_id = f"{host}-{os.getpid()}-{secrets.token_hex(3)}"
        info = WorkerInfo(
            worker_id=self.worker_id,
            host=host,
            pid=os.getpid(),
            version=release(),
            level=LEVEL,
            started_at=clock.now(),
            queues=self._queues,
            types=tuple(sorted(registry.names())),
            slots=slots,
            processes=processes,
            heartbeat_every=heartbeat_every,
        )
        self.leases = Leases(engine, clock, info, lease_for=lease_for, on_heartbeat=self._backlog.follow_clock)
        self._attempts: set[asyncio.Future[Any]] = set()
        self._claiming: list[asyncio.Task[None]] = []
        self._has_lost_ends = False

    @property
    def running(self) -> int:
        """How many attempts run."""
        return len(self.leases)

    async def start(self) -> None:
        """Announce the worker, then begin to claim."""
        await self.leases.start()
        self._claiming = [asyncio.create_task(self._claim_for(pool)) for pool in self._pools if pool.types]

    async def run_next(self) -> Claim | None:
        """Claim the first due task, whatever its kind, and run its attempt to its end; return None if none is due.

        For those who drive a worker by hand: it waits for no slot.
        """
        [pool] = [one for one in self._pools if one.suspects]  # whose types are all there are
        request = ClaimRequest(
            worker=self.worker_id,
            types=pool.types,
            lease_for=self._lease_for,
            limit=1,
            suspects=0,
            queues=self._queues,
        )
        claims = await self._engine.claim(request, wait_for=timedelta(0))
        for claim in claims:
            before = set(self._attempts)
            self._begin(claim, self._pools[0])
            while own := self._attempts - before:
                await asyncio.wait(own)
            return claim
        return None

    async def drain(self, within: timedelta, force: asyncio.Event) -> bool:
        """Stop claiming, let attempts end within the time (or until `force`), give the rest back. Idempotent.

        Return whether the end of every attempt was stored; a task whose end was not stored runs again.
        """
        await _cancel(self._claiming)
        self._runner.drain()
        self.leases.announce_draining()
        if self._attempts:
            _log.info("worker.draining", running=self.running, seconds=within.total_seconds())
            await self._wait_for_ends(within, force)
        self.leases.abandon_all(Released())
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=_END_WITHIN.total_seconds())
        if self._attempts:
            self._has_lost_ends = True
            _log.error("worker.ends_not_stored", attempts=len(self._attempts), detail="their tasks run again")
        await _cancel(tuple(self._attempts))
        await self.leases.stop()
        return not self._has_lost_ends

    def health(self, partitions: Sequence[PartitionStats]) -> dict[str, str]:
        """Return whether the worker lives and keeps up: by name, "ok" or what is wrong."""
        return {"worker": self._alive(), "line": self._backlog.health(partitions)}

    def _alive(self) -> str:
        has_stopped = any(claiming.done() for claiming in self._claiming)
        return "not running" if has_stopped else self.leases.health()

    async def _claim_for(self, pool: SlotPool) -> None:
        backoff = Backoff()
        while True:
            free = await pool.wait_free()
            request = ClaimRequest(
                worker=self.worker_id,
                types=pool.types,
                lease_for=self._lease_for,
                limit=0 if pool.suspects else free,
                suspects=free if pool.suspects else 0,
                queues=self._queues,
            )
            try:
                claims = await self._engine.claim(request, wait_for=_CLAIM_WAIT)
            except Unavailable as error:
                _log.warning("worker.cannot_claim", reason=error.detail)
                await backoff.wait()
                continue
            except Exception:  # a bug or hand-edited data in the store must not stop this pool
                _log.exception("worker.cannot_claim", lane=pool.name)
                await backoff.wait()
                continue
            backoff.reset()
            for claim in claims:
                self._begin(claim, pool)

    def _begin(self, claim: Claim, pool: SlotPool) -> None:
        pool.begin()
        lease = claim.lease
        stop = self.leases.add(lease)
        change = None if pool.suspects else self._runner.run_at_once(claim)
        if change is None:
            self._keep(asyncio.create_task(self._run(claim, lease, stop, pool)))
            return
        pool.end()
        self._store(claim, lease, change, stop, pool)

    def _keep(self, attempt: asyncio.Task[None]) -> None:
        self._attempts.add(attempt)
        attempt.add_done_callback(self._attempts.discard)

    def _store(self, claim: Claim, lease: Lease, change: Transition, stop: Stop, pool: SlotPool) -> None:
        """Store the end of an attempt that has run at once; this needs a task only if the store is unavailable."""

        def stored(ending: asyncio.Future[bool]) -> None:
            self._attempts.discard(ending)
            if not ending.cancelled() and ending.exception() is not None:
                self._keep(asyncio.create_task(self._store_again(claim, lease, change, stop, pool)))
                return
            if not ending.cancelled():
                self._runner.stored(claim, change, is_stored=ending.result())
            self.leases.remove(stop)
            pool.stored()

        ending = self._runner.store(lease, change)
        self._attempts.add(ending)
        ending.add_done_callback(stored)

    async def _store_again(self, claim: Claim, lease: Lease, change: Transition, stop: Stop, pool: SlotPool) -> None:
        try:
            self._runner.stored(claim, change, is_stored=await self._runner.store_at_last(lease, change))
        finally:
            self.leases.remove(stop)
            pool.stored()

    async def _run(self, claim: Claim, lease: Lease, stop: Stop, pool: SlotPool) -> None:
        try:
            try:
                running = self._runner.prepare(claim, lease, stop)
                outcome = await self._runner.run(running, isolate=pool.suspects)
            finally:
                pool.end()
            await self._runner.complete(running, outcome)
        finally:
            self.leases.remove(stop)
            pool.stored()

    async def _wait_for_ends(self, within: timedelta, force: asyncio.Event) -> None:
        """Wait until every attempt has ended, the time is over, or `force` is set."""
        forced = asyncio.create_task(force.wait())
        deadline = self._clock.monotonic() + within.total_seconds()
        while self._attempts and not forced.done():
            left = deadline - self._clock.monotonic()
            if left <= 0:
                break
            await asyncio.wait({*self._attempts, forced}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        await _cancel([forced])


def _make_pools(registry: Registry, slots: int, processes: int) -> list[SlotPool]:
    on_loop = frozenset(kind.name for kind in registry if kind.is_async)
    every = frozenset(registry.names())
    return [
        SlotPool("loop", on_loop, slots),
        SlotPool("children", every - on_loop, processes),
        SlotPool("suspects", every, 1, suspects=True),
    ]


async def _cancel(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait for their end; one may just have failed to store its attempt's end."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, Unavailable):
            await task
