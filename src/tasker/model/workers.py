"""Workers: what each says of itself, and what it runs now."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from msgspec import Struct


class WorkerInfo(Struct, frozen=True, kw_only=True):
    """What a worker says of itself. `queues` is None for every queue; version has the build; level: release.LEVEL."""

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
    """An attempt that a worker runs."""

    task_id: UUID
    attempt: int
    type: str
    queue: str
    started_at: datetime
    owner: str = ""


class WorkerState(Struct, frozen=True, kw_only=True):
    """A worker as the engine knows it: what it last said, when, and what it runs, oldest first."""

    info: WorkerInfo
    heartbeat_at: datetime
    running: tuple[RunningAttempt, ...] = ()
