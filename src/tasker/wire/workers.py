"""Workers: which processes run tasks."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from msgspec import Struct

from tasker.wire.shapes import Always

WorkerStatus = Literal["running", "draining", "silent"]


class Running(Struct, frozen=True, kw_only=True):
    """An attempt that a worker runs."""

    task_id: UUID
    type: str
    queue: str
    attempt: int
    started_at: datetime


class Worker(Struct, frozen=True, kw_only=True):
    """A worker: a process that runs tasks. `queues` is null for every queue.

    `version` ends with the build, a digest of its sources. `level`: of the features it knows; it leaves tasks that need
    a higher one to other workers. `silent`: no heartbeat for longer than a lease; what it ran is run again elsewhere.
    """

    worker_id: str
    status: WorkerStatus
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
    running: list[Running]


class WorkerPage(Struct, frozen=True, kw_only=True):
    """Every worker, in order of its start; `next_cursor` is always null."""

    items: list[Worker]
    next_cursor: Always[str | None] = None
