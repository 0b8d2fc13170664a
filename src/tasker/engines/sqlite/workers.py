"""The workers of the one process that holds the file: they are as long-lived as it, so memory is their place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

from tasker.clock import Clock
from tasker.engine import KEEP_WORKERS_FOR
from tasker.model import RunningAttempt, WorkerInfo, WorkerState

FindRunning = Callable[[], Awaitable[dict[str, list[RunningAttempt]]]]


class SqliteWorkers:
    """The WorkerBook of one process. find_running: what runs by the store, by worker, oldest first."""

    def __init__(self, clock: Clock, find_running: FindRunning) -> None:
        self._clock = clock
        self._find_running = find_running
        self._known: dict[str, tuple[WorkerInfo, datetime]] = {}

    async def announce(self, worker: WorkerInfo) -> None:
        self._known[worker.worker_id] = worker, self._clock.now()

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
