"""The operation on workers."""

from __future__ import annotations

from datetime import datetime, timedelta

from tasker.api.calls import Call
from tasker.api.operation import get, ok
from tasker.api.replies import Reply, json_reply
from tasker.clock import Clock
from tasker.model import WorkerState
from tasker.service import Service
from tasker.wire import workers as wire
from tasker.wire.shapes import show


class FleetOperations:
    """Show the workers. silent_after: the lease of an attempt."""

    tag = "workers"

    def __init__(self, service: Service, clock: Clock, *, silent_after: timedelta) -> None:
        self._service = service
        self._clock = clock
        self._silent_after = silent_after

    @get("/worker", "List the workers and what each runs", ok("Every worker.", wire.WorkerPage))
    async def list_workers(self, call: Call) -> Reply:
        call.query()
        now = self._clock.now()
        states = await self._service.workers.find_all(call.caller)
        return json_reply(wire.WorkerPage(items=[self._view(state, now) for state in states]))

    def _view(self, state: WorkerState, now: datetime) -> wire.Worker:
        return show(
            wire.Worker,
            state.info,
            status=self._status(state, now),
            heartbeat_at=state.heartbeat_at,
            running=[show(wire.Running, attempt) for attempt in state.running],
        )

    def _status(self, state: WorkerState, now: datetime) -> wire.WorkerStatus:
        if now - state.heartbeat_at > self._silent_after:
            return "silent"
        return "draining" if state.info.draining else "running"
