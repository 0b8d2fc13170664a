"""The workers of the one process that holds the file: they are as long-lived as it, so memory is their place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

from msgspec import structs

from tasker.clock import Clock
from tasker.engine import KEEP_TYPES_FOR, KEEP_WORKERS_FOR
from tasker.model import RunningAttempt, WorkerInfo, WorkerState
from tasker.model.types import KnownType, PublishedType

_SEEN_EVERY = timedelta(minutes=1)
FindRunning = Callable[[], Awaitable[dict[str, list[RunningAttempt]]]]


class SqliteWorkers:
    """The WorkerBook of one process. find_running: what runs by the store, by worker, oldest first."""

    def __init__(self, clock: Clock, find_running: FindRunning) -> None:
        self._clock = clock
        self._find_running = find_running
        self._known: dict[str, tuple[WorkerInfo, datetime]] = {}
        self._types: dict[str, KnownType] = {}

    async def announce(self, worker: WorkerInfo) -> None:
        now = self._clock.now()
        self._known[worker.worker_id] = worker, now
        for name in self._types.keys() & set(worker.types):
            if now - self._types[name].seen_at > _SEEN_EVERY:
                self._types[name] = structs.replace(self._types[name], seen_at=now)

    async def publish(self, types: Sequence[PublishedType]) -> None:
        now = self._clock.now()
        self._types |= {one.name: KnownType(type=one, seen_at=now) for one in types}

    async def find_types(self) -> list[KnownType]:
        since = self._clock.now() - KEEP_TYPES_FOR
        found = [known for known in self._types.values() if known.seen_at >= since]
        return sorted(found, key=lambda known: known.type.name)

    async def withdraw(self, worker_id: str) -> None:
        self._known.pop(worker_id, None)

    async def find_all(self) -> list[WorkerState]:
        since = self._clock.now() - KEEP_WORKERS_FOR
        running = await self._find_running()
        states = [
            WorkerState(info=info, heartbeat_at=heard, running=tuple(running.get(info.worker_id, ())))
            for info, heard in self._known.values()
            if heard > since
        ]
        return sorted(states, key=lambda state: (state.info.started_at, state.info.worker_id))
