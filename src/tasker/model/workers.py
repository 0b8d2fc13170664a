"""Workers: what each reports about itself, and what it runs."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from msgspec import Struct


class WorkerInfo(Struct, frozen=True, kw_only=True):
    """A worker's report about itself. queues: None for all. version: with the build. level: release.LEVEL."""

    worker_id: str
    host: str
    pid: int
    version: str
    started_at: datetime
    queues: tuple[str, ...] | None
    types: tuple[str, ...]
    slots: int
    processes: int
    heartbeat_every: timedelta = timedelta(0)
    draining: bool = False
    level: int = 0


class RunningAttempt(Struct, frozen=True, kw_only=True):
    """An attempt that a worker runs now."""

    task_id: UUID
    attempt: int
    type: str
    queue: str
    started_at: datetime
    owner: str = ""


class WorkerState(Struct, frozen=True, kw_only=True):
    """A worker as the engine knows it: its last report, the time of that, and its attempts, oldest first."""

    info: WorkerInfo
    heartbeat_at: datetime
    running: tuple[RunningAttempt, ...] = ()
