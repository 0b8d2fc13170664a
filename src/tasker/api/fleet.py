"""The operations on workers and queues: who runs tasks, and what waits for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from msgspec import Struct

from tasker.api.calls import Call
from tasker.api.replies import Reply, json_reply
from tasker.clock import Clock
from tasker.errors import NotFound
from tasker.model import LineStats, WorkerState, queue_name_pattern
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

    `silent`: it has given no sign of life for longer than a lease; what it ran is run again elsewhere.
    """

    worker_id: str
    status: Literal["running", "draining", "silent"]
    host: str
    pid: int
    version: str
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


class QueueView(Struct, frozen=True, kw_only=True):
    """The open tasks of a queue: `pending` are due, `scheduled` wait for a moment.

    `load`: tasks that need a worker now, pending and running together; autoscalers go by it.
    `oldest_wait`: seconds that the longest-waiting due task has waited, null without one.
    """

    name: str
    pending: int = 0
    scheduled: int = 0
    running: int = 0
    load: int = 0
    oldest_wait: float | None = None


class QueuePage(Struct, frozen=True, kw_only=True):
    """Every queue with open tasks, by name; `next_cursor` is always null."""

    items: list[QueueView]
    next_cursor: None = None


class FleetOperations:
    """What the engine knows of workers and lines. silent_after: the lease of an attempt."""

    def __init__(self, service: Service, clock: Clock, *, silent_after: timedelta) -> None:
        self._service = service
        self._clock = clock
        self._silent_after = silent_after

    async def workers(self, call: Call) -> Reply:
        call.query()
        now = self._clock.now()
        return json_reply(
            WorkerPage(items=[self._view(state, now) for state in await self._service.workers(call.caller)])
        )

    async def queues(self, call: Call) -> Reply:
        call.query()
        return json_reply(QueuePage(items=_by_queue(await self._service.stats(), self._clock.now())))

    async def queue(self, call: Call) -> Reply:
        """A queue is there as soon as it is named: autoscalers ask before the first task and after the last."""
        call.query()
        name = call.path["name"]
        if not re.fullmatch(queue_name_pattern, name):
            raise NotFound(f"there is no queue {name[:100]!r}")
        queues = _by_queue(await self._service.stats(), self._clock.now())
        return json_reply(next((view for view in queues if view.name == name), QueueView(name=name)))

    def _view(self, state: WorkerState, now: datetime) -> WorkerView:
        info = state.info
        return WorkerView(
            worker_id=info.worker_id, status=self._status(state, now), host=info.host, pid=info.pid,
            version=info.version, started_at=info.started_at, heartbeat_at=state.heartbeat_at,
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


def _by_queue(lines: Sequence[LineStats], now: datetime) -> list[QueueView]:
    names = sorted({line.queue for line in lines})
    return [_queue_view(name, [line for line in lines if line.queue == name], now) for name in names]


def _queue_view(name: str, lines: Sequence[LineStats], now: datetime) -> QueueView:
    oldest = min((line.oldest_due_at for line in lines if line.oldest_due_at is not None), default=None)
    pending, running = sum(line.pending for line in lines), sum(line.running for line in lines)
    return QueueView(
        name=name, pending=pending, scheduled=sum(line.scheduled for line in lines), running=running,
        load=pending + running,
        oldest_wait=None if oldest is None else max(0.0, (now - oldest).total_seconds()),
    )  # fmt: skip
