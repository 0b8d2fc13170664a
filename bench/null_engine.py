"""An upper bound: an engine that keeps tasks in dicts and answers at once. Nothing is durable; for the benchmark only.

With `runs=True` tasks are handed to workers and completed, so that all but the store is Tasker's own work; with
`runs=False` they are only accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Raw

from tasker.clock import Clock
from tasker.engines.protocol import ClaimRequest, Engine, Heartbeat, Listener, WorkerStore
from tasker.engines.sqlite import open_sqlite
from tasker.engines.sqlite.stores.workers import SqliteWorkers
from tasker.model import (
    Change,
    Claim,
    Draft,
    Lease,
    Policy,
    Receipt,
    Report,
    RunningAttempt,
    Status,
    Task,
    Transition,
)

_policy = lru_cache(maxsize=64)(msgspec.json.Decoder(Policy).decode)


@contextlib.asynccontextmanager
async def open_null(clock: Clock, *, runs: bool = True) -> AsyncIterator[NullEngine]:
    """Open an engine without a store; what it does not have is that of a store in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="tasker-null-") as folder:
        async with open_sqlite(Path(folder) / "data" / "tasker.db", clock) as rest:
            yield NullEngine(rest, clock, runs=runs)


class NullEngine:
    """The life of a task in memory. The rest of the Engine is a real store, which stays empty."""

    is_shared = False

    def __init__(self, rest: Engine, clock: Clock, *, runs: bool = True) -> None:
        self._rest = rest
        self._clock = clock
        self.workers: WorkerStore = SqliteWorkers(clock, self._find_running)
        self._runs = runs
        self._drafts: dict[UUID, Draft] = {}
        self._ended: dict[UUID, Transition] = {}
        self._ready: defaultdict[str, deque[Draft]] = defaultdict(deque)
        self._more: dict[str, asyncio.Event] = {}
        self._listeners: list[Listener] = []
        self._news: list[Change] = []

    def __getattr__(self, name: str) -> Any:
        """Return the real store's attribute for what is not here: keys, schedules, webhooks, the journal..."""
        return getattr(self._rest, name)

    async def submit(self, drafts: Sequence[Draft]) -> list[Receipt]:
        for draft in drafts:
            self._drafts[draft.task_id] = draft
            if self._runs:
                self._ready[draft.type].append(draft)
                if draft.type in self._more:
                    self._more[draft.type].set()
        return [Receipt(draft.task_id, "stored") for draft in drafts]

    async def claim(self, request: ClaimRequest, *, wait_for: timedelta) -> list[Claim]:
        claims = self._take(request)
        if not claims:
            more = asyncio.Event()
            if request.limit:
                self._more.update(dict.fromkeys(request.types, more))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(more.wait(), wait_for.total_seconds())
            claims = self._take(request)
        return claims

    def _take(self, request: ClaimRequest) -> list[Claim]:
        now = self._clock.now()
        drafts: list[Draft] = []
        for line in [self._ready[name] for name in request.types]:
            while line and len(drafts) < request.limit:
                drafts.append(line.popleft())
        return [_claim(draft, now, request.worker) for draft in drafts]

    async def complete(self, lease: Lease, change: Transition, report: Report | None = None) -> bool:
        self._ended[lease.task_id] = change
        if self._listeners:
            if not self._news:
                asyncio.get_running_loop().call_soon(self._tell)
            self._news.append(Change(lease.task_id, change.status))
        return True

    def _tell(self) -> None:
        news, self._news = self._news, []
        for listener in self._listeners:
            listener(news)

    async def heartbeat(self, leases: Sequence[Lease], extend_by: timedelta) -> Heartbeat:
        return Heartbeat(set(), set())

    async def record(self, lease: Lease, report: Report) -> bool:
        return True

    async def find(self, task_id: UUID) -> Task | None:
        draft = self._drafts.get(task_id)
        return _task(draft, self._ended.get(task_id)) if draft else None

    async def find_expired(self, *, limit: int) -> list[Claim]:
        return []

    async def _find_running(self) -> dict[str, list[RunningAttempt]]:
        return {}

    async def check(self) -> None:
        """Do nothing: this store always works."""

    def watch(self, listener: Listener) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)


def _claim(draft: Draft, now: datetime, worker: str) -> Claim:
    return Claim(
        task_id=draft.task_id, attempt=1, type=draft.type, params=draft.params, queue=draft.queue,
        priority=draft.priority, policy=_policy(draft.policy), tries=0, crashes=0, interruptions=0,
        started_at=now, worker=worker,
    )  # fmt: skip


def _task(draft: Draft, ended: Transition | None) -> Task:
    return Task(
        task_id=draft.task_id, type=draft.type, params=Raw(draft.params),
        status=ended.status if ended else Status.PENDING, reason=None if ended else "queued", queue=draft.queue,
        priority=draft.priority, result=Raw(ended.result) if ended and ended.result else None,
        error=ended.error if ended else None, progress=None, attempt=1 if ended else 0, tries_left=0,
        created_at=draft.created_at, run_at=None, started_at=None, finished_at=ended.at if ended else None,
        next_attempt_at=None, expires_at=None, cancel_requested_at=None, usage=Raw(b"{}"), tags=[],
        metadata=Raw(draft.metadata),
    )  # fmt: skip
