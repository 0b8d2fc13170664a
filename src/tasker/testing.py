"""Helpers for tests of Tasker and of tasks: a clock moved by hand, drafts, and a driver of an engine's steps.

No test framework is needed, and nothing here sleeps.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import msgspec
from msgspec import structs

from tasker.clock import Clock
from tasker.engines.protocol import ClaimRequest, Engine
from tasker.errors import NotFound
from tasker.model import (
    Claim,
    Draft,
    Extra,
    Idempotency,
    OnCrash,
    Policy,
    Report,
    RetryPolicy,
    Task,
    new_task_id,
)
from tasker.rules.lifecycle import Interrupted, Outcome, decide

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
"""Where a manual clock starts: not a round number, so that lost microseconds show."""


class ManualClock:
    """A Clock that stands still until it is moved; both its times move along together."""

    def __init__(self, start: datetime = START) -> None:
        if start.tzinfo is None:
            raise ValueError(f"start must be aware, got {start!r}")
        self._now = start.astimezone(UTC)
        self._monotonic = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def elapsed(self) -> float:
        return self._monotonic

    def advance(self, by: timedelta) -> datetime:
        """Move both times forward and return the new `now()`. Raises ValueError for a negative step."""
        if by < timedelta(0):
            raise ValueError(f"time does not run backwards, got {by}")
        self._now += by
        self._monotonic += by.total_seconds()
        return self._now

    def set(self, now: datetime) -> None:
        """Set the wall clock alone, to any moment, as a person or a time server does."""
        self._now = now.astimezone(UTC)


def make_draft(
    now: datetime = START,
    *,
    task_id: UUID | None = None,
    type: str = "sum",
    params: bytes = b"[4,2]",
    queue: str = "default",
    priority: int = 0,
    delay: timedelta | None = None,
    retry: RetryPolicy | None = None,
    on_crash: OnCrash = "retry",
    tags: tuple[str, ...] = (),
    metadata: bytes = b"{}",
    idempotency: Idempotency | None = None,
    **options: Any,
) -> Draft:
    """Return a draft submitted at `now`, due at once or after `delay`; by default `sum` of [4,2] with one try.

    options: further fields of a Draft.
    """
    retry = retry or RetryPolicy()
    if delay is not None:
        options["extra"] = structs.replace(options.get("extra") or Extra(), delayed=True)
    return Draft(
        task_id=task_id or new_task_id(now),
        type=type,
        params=params,
        queue=queue,
        priority=priority,
        created_at=now,
        policy=msgspec.json.encode(Policy(retry=retry, on_crash=on_crash)),
        max_attempts=retry.max_attempts,
        run_at=None if delay is None else now + delay,
        tags=tags,
        metadata=metadata,
        idempotency=idempotency,
        **options,
    )


def make_key(
    now: datetime = START,
    key: str = "key-1",
    *,
    fingerprint: bytes = b"request",
    reply: bytes = b'{"reply":1}',
    lasts: timedelta = timedelta(hours=24),
) -> Idempotency:
    """Return an idempotency key given at `now` and kept for `lasts`."""
    return Idempotency(key=key, fingerprint=fingerprint, reply=reply, expires_at=now + lasts)


class Driver:
    """Takes tasks through their steps by hand, one call each, as service, worker and reaper do.

    Nothing waits: a claim with nothing to take returns [].
    """

    def __init__(
        self, engine: Engine, clock: Clock, *, worker: str = "worker-1", lease_for: timedelta = timedelta(seconds=30)
    ) -> None:
        self.engine = engine
        self.clock = clock
        self.worker = worker
        self.lease_for = lease_for
        self._random = Random(0)  # noqa: S311  jitter only, and the same in each run

    async def submit(self, draft: Draft | None = None) -> UUID:
        """Submit one draft (by default `make_draft` now) and return the id of its receipt."""
        [receipt] = await self.engine.submit([draft or make_draft(self.clock.now())])
        return receipt.task_id

    async def claim(
        self,
        limit: int = 1,
        *,
        types: Collection[str] = ("sum",),
        suspects: int = 0,
        queues: Collection[str] | None = None,
        wait_for: timedelta = timedelta(0),
    ) -> list[Claim]:
        """Claim up to `limit` tasks."""
        request = ClaimRequest(
            worker=self.worker, types=types, limit=limit, lease_for=self.lease_for, suspects=suspects, queues=queues
        )
        return await self.engine.claim(request, wait_for=wait_for)

    async def claim_one(self, *, types: Collection[str] = ("sum",), suspects: int = 0) -> Claim:
        """Claim exactly one task. Raises LookupError when there is none."""
        claims = await self.claim(0 if suspects else 1, types=types, suspects=suspects)
        if len(claims) != 1:
            raise LookupError(f"expected one task to claim, got {claims}")
        return claims[0]

    async def finish(self, claim: Claim, outcome: Outcome, report: Report | None = None) -> bool:
        """End the attempt with what `lifecycle.decide` makes of `outcome`; False if the lease is no longer current."""
        change = decide(outcome, claim, self.clock.now(), self._random)
        return await self.engine.complete(claim.lease, change, report)

    async def reap(self, *, limit: int = 100) -> list[Claim]:
        """Complete every expired attempt as interrupted, and return those that were still current."""
        expired = await self.engine.find_expired(limit=limit)
        return [claim for claim in expired if await self.finish(claim, Interrupted())]

    async def get(self, task_id: UUID) -> Task:
        """Return the task. Raises NotFound."""
        task = await self.engine.find(task_id)
        if task is None:
            raise NotFound(f"no task {task_id}")
        return task
