"""The WorkerStore of the embedded engine: in memory, for the workers live in the one process that has the file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

from tasker.clock import Clock
from tasker.model import RunningAttempt, WorkerInfo, WorkerState
from tasker.model.keeping import KEEP_TYPES_FOR, KEEP_WORKERS_FOR
from tasker.model.types import KnownType, PublishedType

FindRunning = Callable[[], Awaitable[dict[str, list[RunningAttempt]]]]


class SqliteWorkers:
    """Implements WorkerStore. Times of announcements are counted by the monotonic clock.

    find_running: returns the running attempts in the store by worker, oldest first.
    """

    def __init__(self, clock: Clock, find_running: FindRunning) -> None:
        self._clock = clock
        self._find_running = find_running
        self._known: dict[str, tuple[WorkerInfo, float]] = {}
        self._types: dict[str, tuple[PublishedType, float]] = {}

    async def announce(self, worker: WorkerInfo) -> None:
        heard = self._clock.monotonic()
        self._known[worker.worker_id] = worker, heard
        for name in self._types.keys() & set(worker.types):
            self._types[name] = self._types[name][0], heard

    async def publish(self, types: Sequence[PublishedType]) -> None:
        self._types |= {one.name: (one, self._clock.monotonic()) for one in types}

    async def find_types(self) -> list[KnownType]:
        found = [
            KnownType(type=one, seen_at=self._when(heard))
            for one, heard in self._types.values()
            if self._silence(heard) <= KEEP_TYPES_FOR
        ]
        return sorted(found, key=lambda known: known.type.name)

    async def withdraw(self, worker_id: str) -> None:
        self._known.pop(worker_id, None)

    async def find_all(self) -> list[WorkerState]:
        running = await self._find_running()
        states = [
            WorkerState(info=info, heartbeat_at=self._when(heard), running=tuple(running.get(info.worker_id, ())))
            for info, heard in self._known.values()
            if self._silence(heard) < KEEP_WORKERS_FOR
        ]
        return sorted(states, key=lambda state: (state.info.started_at, state.info.worker_id))

    def _silence(self, heard: float) -> timedelta:
        return timedelta(seconds=self._clock.monotonic() - heard)

    def _when(self, heard: float) -> datetime:
        """Return the time of an announcement on the current wall clock, which may have been set since."""
        return self._clock.now() - self._silence(heard)
