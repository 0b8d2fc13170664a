"""The leases of a worker: heartbeats extend them, and return the requests to stop attempts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog
from msgspec import structs

from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.errors import Unavailable
from tasker.executor.attempt import Stop
from tasker.model import Change, Lease, WorkerInfo
from tasker.rules.lifecycle import Interrupted, Outcome

WITHDRAW_WITHIN = timedelta(seconds=2)
"""How long the withdrawal of a stopped worker may take."""

_log = structlog.get_logger(__name__)


class Leases:
    """Holds the leases of the attempts that run, and announces the worker with every heartbeat.

    lease_for: how long a lease lasts. on_heartbeat: called with each.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        info: WorkerInfo,
        *,
        lease_for: timedelta,
        on_heartbeat: Callable[[], object] = lambda: None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._info = info
        self._lease_for = lease_for
        self._on_heartbeat = on_heartbeat
        self._held: dict[Stop, Lease] = {}
        self._due = asyncio.Event()
        self._last = clock.monotonic()
        self._loop: asyncio.Task[None] | None = None
        self._unwatch: Callable[[], None] | None = None

    def __len__(self) -> int:
        return len(self._held)

    def add(self, lease: Lease) -> Stop:
        """Keep a lease alive; return the Stop that ends its attempt if the lease is lost or the task cancelled."""
        stop = Stop()
        self._held[stop] = lease
        return stop

    def remove(self, stop: Stop) -> None:
        """Forget the lease of an attempt that has ended. stop: as returned by `add`."""
        del self._held[stop]

    def abandon_all(self, outcome: Outcome) -> None:
        """End every attempt at once, with this outcome."""
        for stop in self._held:
            stop.abandon(outcome)

    async def start(self) -> None:
        """Announce the worker, then keep leases alive until `stop`."""
        await self._announce()
        self._unwatch = self._engine.watch(self._on_changes)
        self._last = self._clock.monotonic()
        self._loop = asyncio.create_task(self._run())

    def announce_draining(self) -> None:
        """Announce at once that the worker claims no more."""
        self._info = structs.replace(self._info, draining=True)
        self._due.set()

    async def stop(self) -> None:
        """End the heartbeats and withdraw the worker. Idempotent."""
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop
            self._loop = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WITHDRAW_WITHIN.total_seconds()):
                    await self._withdraw()
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None

    def health(self) -> str:
        """Return "ok", or what is wrong with the heartbeats."""
        if self._loop is None or self._loop.done():
            return "not running"
        silent = self._clock.monotonic() - self._last
        return "ok" if silent < self._lease_for.total_seconds() else f"no heartbeat for {silent:.0f} s"

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):  # not wait_for: Python 3.11's can swallow a cancellation
                async with asyncio.timeout(self._info.heartbeat_every.total_seconds()):
                    await self._due.wait()
            self._due.clear()
            try:
                await self.heartbeat()
            except Unavailable as error:
                _log.warning("worker.cannot_heartbeat", reason=error.detail)
            except Exception:  # a bug or hand-edited data: without heartbeats every lease would end
                _log.exception("worker.cannot_heartbeat")

    async def heartbeat(self) -> None:
        """Extend the leases; stop attempts whose lease is lost, or whose task a client has cancelled."""
        if self._held:
            beat = await self._engine.heartbeat(list(self._held.values()), self._lease_for)
            for stop, lease in list(self._held.items()):
                if lease in beat.lost:
                    stop.abandon(Interrupted())
                elif lease in beat.cancelled:
                    stop.cancel()
        self._last = self._clock.monotonic()
        self._on_heartbeat()
        await self._announce()

    def _on_changes(self, changes: Sequence[Change]) -> None:
        """Stop cancelled attempts before the next heartbeat. Without changes, some may be lost: send a heartbeat."""
        if not changes:
            self._due.set()
        for change in changes:
            if change.cancel_requested:
                for stop, lease in list(self._held.items()):
                    if lease.task_id == change.task_id:
                        stop.cancel()

    async def _announce(self) -> None:
        try:
            await self._engine.workers.announce(self._info)
        except Unavailable as error:
            _log.warning("worker.not_announced", reason=error.detail)

    async def _withdraw(self) -> None:
        try:
            await self._engine.workers.withdraw(self._info.worker_id)
        except Unavailable as error:
            _log.warning("worker.not_withdrawn", reason=error.detail)
