"""The model of the state machine: a task as it must be, without a store."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

import msgspec
from msgspec import structs

from tasker.model import Claim, Draft, Event, Policy, Status, Transition
from tasker.rules.lifecycle import MAX_INTERRUPTIONS

SECOND = timedelta(seconds=1)
LEASE = 30.5 * SECOND
"""Leases and keys end between whole seconds, and the clock moves by whole seconds: the exact moment is not tested."""
NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""When a task is due that waits for others alone."""
CUT_OFF = datetime.min.replace(tzinfo=UTC)
"""The end of a lease whose worker ended with an earlier process."""


class Twin:
    """A task in the model."""

    happened: ClassVar[Counter[str]] = Counter()
    """What has happened to all twins, as the statistics must count it."""

    def __init__(self, draft: Draft, order: int) -> None:
        self.happened["submitted"] += 1
        self.draft = draft
        self.order = order
        self.status = Status.PENDING
        self.reason = "queued" if draft.run_at is None else "scheduled"
        self.due_at = draft.run_at or draft.created_at
        self.attempt = self.tries = self.crashes = self.interruptions = 0
        self.cancel_requested = False
        self.lease_until = CUT_OFF
        self.claim: Claim | None = None
        self.endings: list[str | None] = []
        self.said: list[tuple[int, str]] = []
        self.log: list[Event] = []
        self.usage = b"{}"
        self.expires_at: datetime | None = None
        self.waits: set[UUID] = set()
        self.is_orphan = False
        """Whether it failed because of a dependency."""
        self.was_passed = False
        """Whether the clock was set back while it was due: others that become due now may start before it."""
        self.steps: dict[str, Any] = {}
        """Its steps (kin.StepTwin) by key."""
        self.parent: UUID | None = None
        self.step: Any = None
        """The step of its parent that started it."""
        self.is_held = self.is_end_noted = self.is_gone_at_end = self.is_gone = False
        self.finished_at = CUT_OFF

    @property
    def is_suspect(self) -> bool:
        return self.interruptions >= MAX_INTERRUPTIONS

    @property
    def rank(self) -> tuple[int, datetime]:
        return -self.draft.priority, self.due_at

    def is_due_for(self, types: tuple[str, ...], now: datetime) -> bool:
        return self.status is Status.PENDING and self.due_at <= now and self.draft.type in types

    def is_over(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def close(self, status: Status, now: datetime) -> None:
        self.happened[status] += 1
        self.status, self.finished_at = status, now
        self.expires_at = None if self.draft.retention is None else now + self.draft.retention

    def next_claim(self, worker: str, now: datetime) -> Claim:
        """Return the claim of a worker that takes it now."""
        draft = self.draft
        return Claim(
            task_id=draft.task_id,
            attempt=self.attempt + 1,
            type=draft.type,
            params=draft.params,
            queue=draft.queue,
            priority=draft.priority,
            policy=msgspec.json.decode(draft.policy, type=Policy),
            tries=self.tries,
            crashes=self.crashes,
            interruptions=self.interruptions,
            started_at=now,
            worker=worker,
            usage=self.usage,
        )

    def start(self, claim: Claim, now: datetime) -> None:
        self.happened["started"] += 1
        self.status = Status.RUNNING
        self.attempt += 1
        self.was_passed = False
        self.claim = claim
        self.lease_until = now + LEASE
        self.endings.append(None)

    def end(self, change: Transition, now: datetime) -> None:
        self.endings[-1] = change.ending
        self.happened["ran"] += change.ending not in ("interrupted", "parked")
        self.tries, self.crashes, self.interruptions = change.tries, change.crashes, change.interruptions
        if change.status is not Status.PENDING:
            self.close(change.status, now)
        elif self.cancel_requested:
            self.close(Status.CANCELLED, now)
        else:
            self.happened["retried"] += change.reason == "retrying"
            due_at = NEVER if change.wait is not None and change.run_at is None else change.run_at or now
            self.status, self.reason, self.due_at = change.status, str(change.reason), due_at

    def retry(self, now: datetime) -> None:
        self.happened["retried"] += 1
        self.status, self.reason, self.due_at = Status.PENDING, "queued", now
        self.tries = self.crashes = self.interruptions = 0
        self.cancel_requested, self.expires_at = False, None

    def clock_was_set(self, before: datetime, step: timedelta, lease: timedelta | None) -> None:
        """Follow the clock: a due task stays due, durations keep their length, moments stay as they are.

        lease: how long leases last from now on; None where they are no affair of the wall clock.
        """
        now = before + step
        for one in self.steps.values():
            one.clock_was_set(before, step)
        if self.status is Status.RUNNING and self.lease_until != CUT_OFF:
            self.lease_until = self.lease_until + step if lease is None else now + lease
        delayed = self.draft.is_delayed and self.draft.run_at is not None and self.draft.run_at > before
        if self.status is not Status.PENDING:
            return
        if self.waits or self.due_at == NEVER:
            if delayed:
                self.move_delay(step)
        elif self.due_at <= before:
            self.was_passed |= self.due_at > now
            self.due_at = min(self.due_at, now)
        elif self.reason != "scheduled":
            self.due_at += step
        elif self.draft.is_delayed:
            self.move_delay(step)
            self.due_at += step

    def move_delay(self, step: timedelta) -> None:
        assert self.draft.run_at is not None
        self.draft = structs.replace(self.draft, run_at=self.draft.run_at + step)

    def seen(self, now: datetime) -> tuple[Any, ...]:
        reason = None
        if self.status is Status.PENDING:
            reason = self.reason if self.due_at > now else "queued"
        tries_left = self.draft.max_attempts - self.tries
        return self.draft.task_id, self.status, reason, self.attempt, tries_left, self.expires_at
