"""The page of workers: a square per slot, what each runs, when it was last heard of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from tasker.api.events import SSE
from tasker.api.replies import Reply, Stream
from tasker.model import WorkerState
from tasker.service import Service
from tasker.web import texts, times
from tasker.web.frame import Frame
from tasker.web.live import Live
from tasker.web.page import Visit, show

_MOST_TYPES = 6
"""Types of running tasks that a row names."""
_STATES = {"running": ("running", "running"), "draining": ("pause", "draining"), "silent": ("warn", "silent")}


class Runs(NamedTuple):
    """Tasks of a type that a worker runs. task_id: of the one, if there is one alone."""

    type: str
    number: int
    task_id: str | None


class Row(NamedTuple):
    """A worker in the table. icon, state: see _STATES. running: attempts that the caller may see."""

    name: str
    version: str
    host: str
    pid: int
    icon: str
    state: str
    running: int
    slots: int
    queues: str
    runs: list[Runs]
    left_out: int
    heartbeat_at: datetime
    up: str


class WorkerPages:
    """Show the workers. silent_after: the lease of an attempt."""

    def __init__(self, frame: Frame, service: Service, live: Live, *, silent_after: timedelta) -> None:
        self._frame = frame
        self._workers = service.workers
        self._live = live
        self._silent_after = silent_after

    @show("/workers", nav="Workers", icon="workers")
    async def workers(self, visit: Visit) -> Reply:
        rows = self._rows(await self._workers.find_all(visit.caller), visit.now)
        return self._frame.render(visit, "workers.html", page="workers", rows=rows, live="live/workers")

    @show("/live/workers", media=SSE)
    async def live_workers(self, visit: Visit) -> Stream:
        """Stream the table of workers as it changes."""
        caller = visit.caller

        async def render() -> dict[str, str]:
            now = self._frame.clock.now()
            rows = self._rows(await self._workers.find_all(caller), now)
            return {"workers": self._frame.part("worker_parts.html", "table", rows=rows, now=now, base="")}

        return self._live.board(visit, ("workers", caller.only), render)

    def _rows(self, states: Sequence[WorkerState], now: datetime) -> list[Row]:
        return [row_of(state, now, self._silent_after) for state in states]


def row_of(state: WorkerState, now: datetime, silent_after: timedelta) -> Row:
    """Return a worker as a row."""
    info = state.info
    is_silent = now - state.heartbeat_at > silent_after
    icon, word = _STATES["silent" if is_silent else "draining" if info.draining else "running"]
    counts = Counter(one.type for one in state.running)
    ids = {one.type: str(one.task_id) for one in state.running}
    runs = [Runs(name, count, ids[name] if count == 1 else None) for name, count in counts.most_common(_MOST_TYPES)]
    return Row(
        name=texts.line(info.worker_id, 80),
        version=texts.line(info.version.partition("+")[0], 40),
        host=texts.line(info.host, 80),
        pid=info.pid,
        icon=icon,
        state=word,
        running=len(state.running),
        slots=info.slots,
        queues="all" if info.queues is None else ", ".join(info.queues),
        runs=runs,
        left_out=len(counts) - len(runs),
        heartbeat_at=state.heartbeat_at,
        up=times.span(max(0.0, (now - info.started_at).total_seconds())),
    )
