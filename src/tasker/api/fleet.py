"""The operation on workers: who runs tasks."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from msgspec import Struct

from tasker.api.calls import Call
from tasker.api.replies import Reply, json_reply
from tasker.clock import Clock
from tasker.model import WorkerState
from tasker.service import Service


class RunningView(Struct, frozen=True, kw_only=True):
    """An attempt that a worker runs."""

    task_id: UUID
    type: str
    queue: str
    attempt: int
    started_at: datetime


class WorkerView(Struct, frozen=True, kw_only=True):
    """A worker: a process that runs tasks. `queues` is null for every queue.

    `version` ends with the build, a digest of its sources. `level`: of the features that it knows; it leaves tasks that
    need a higher one to others.
    `silent`: it has given no sign of life for longer than a lease; what it ran is run again elsewhere.
    """

    worker_id: str
    status: Literal["running", "draining", "silent"]
    host: str
    pid: int
    version: str
    level: int
    started_at: datetime
    heartbeat_at: datetime
    queues: list[str] | None
    types: list[str]
    slots: int
    processes: int
    running: list[RunningView]


class WorkerPage(Struct, frozen=True, kw_only=True):
    """Every worker, in order of its start; `next_cursor` is always null."""

    items: list[WorkerView]
    next_cursor: None = None


class FleetOperations:
    """What the engine knows of workers. silent_after: the lease of an attempt."""

    def __init__(self, service: Service, clock: Clock, *, silent_after: timedelta) -> None:
        self._service = service
        self._clock = clock
        self._silent_after = silent_after

    async def workers(self, call: Call) -> Reply:
        call.query()
        now = self._clock.now()
        return json_reply(
            WorkerPage(items=[self._view(state, now) for state in await self._service.workers.find_all(call.caller)])
        )

    def _view(self, state: WorkerState, now: datetime) -> WorkerView:
        info = state.info
        return WorkerView(
            worker_id=info.worker_id, status=self._status(state, now), host=info.host, pid=info.pid,
            version=info.version, level=info.level, started_at=info.started_at, heartbeat_at=state.heartbeat_at,
            queues=None if info.queues is None else list(info.queues), types=list(info.types), slots=info.slots,
            processes=info.processes,
            running=[
                RunningView(
                    task_id=one.task_id, type=one.type, queue=one.queue, attempt=one.attempt, started_at=one.started_at
                )
                for one in state.running
            ],
        )  # fmt: skip

    def _status(self, state: WorkerState, now: datetime) -> Literal["running", "draining", "silent"]:
        if now - state.heartbeat_at > self._silent_after:
            return "silent"
        return "draining" if state.info.draining else "running"
