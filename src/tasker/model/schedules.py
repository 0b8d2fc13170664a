"""Schedules: each submits a task at every tick of its rule."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from msgspec import Raw, Struct

from tasker.model.drafts import Draft
from tasker.model.keys import ANYBODY, Caller, Scope
from tasker.model.pages import PageOf

Missed = Literal["skip", "once", "all"]
Overlap = Literal["allow", "skip", "replace"]

MISSED_AFTER = timedelta(minutes=1)
"""A tick is missed if nothing was submitted for it within this time."""
MOST_MISSED = 100
"""Limit of the missed ticks, the latest ones, that the rule `all` submits later."""
KEEP_RECENT = 100
"""How many of a schedule's latest tasks the rules for overlaps consider."""
KEEP_FIRINGS = 20
"""How many of a schedule's latest ticks it remembers."""


class Skip(Struct, frozen=True, kw_only=True):
    """Why a tick submitted nothing: it was `missed`, an earlier task is still open (`overlap`), or it was `refused`."""

    tick: datetime
    reason: Literal["missed", "overlap", "refused"]
    detail: str = ""


class PastTick(Struct, frozen=True, kw_only=True):
    """What became of a tick, handled at `fired_at`: it submitted the task `task_id`, or was skipped.

    skipped: None if it submitted. missed: nothing fired it in time. overlap: an earlier task was still open, or a later
    tick replaced it. limit_reached: its owner has open tasks in too many queues. refused: `detail` says why.
    """

    tick: datetime
    fired_at: datetime
    task_id: UUID | None = None
    skipped: Literal["missed", "overlap", "limit_reached", "refused"] | None = None
    detail: str = ""


class Schedule(Struct, frozen=True, kw_only=True):
    """A rule, `cron` in `time_zone` or `interval`, and the submission `task` (JSON text) to make at its ticks.

    type: of `task`. anchor: the time from which an interval's ticks are counted. version: grows with each change.
    next_fire_at: the next tick; None while paused, and after the last. last_fired_at: the latest tick that submitted a
    task, `last_task_id`. recent: the latest tasks, including all that may be open. firings: the latest ticks, oldest
    first, with what became of them. scopes: of the key that created the
    schedule, or last changed what it submits; its tasks are submitted with these.
    """

    schedule_id: UUID
    owner: str = ""
    name: str
    type: str
    cron: str | None = None
    interval: timedelta | None = None
    time_zone: str = "UTC"
    missed: Missed = "once"
    overlap: Overlap = "allow"
    paused: bool = False
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    anchor: datetime
    created_at: datetime
    updated_at: datetime
    version: int = 1
    next_fire_at: datetime | None = None
    last_fired_at: datetime | None = None
    last_task_id: UUID | None = None
    last_skip: Skip | None = None
    recent: tuple[UUID, ...] = ()
    firings: tuple[PastTick, ...] = ()
    scopes: tuple[Scope, ...] = ("submit",)
    task: Raw

    @property
    def caller(self) -> Caller:
        """The caller that submits its tasks. A schedule without an owner was created without keys."""
        return Caller(owner=self.owner, scopes=frozenset(self.scopes)) if self.owner else ANYBODY


SchedulePage = PageOf[Schedule]


class Due(Struct, frozen=True, kw_only=True):
    """Schedules that are due at `now`, the store's time. `next_at`: when the next other one is due."""

    now: datetime
    schedules: list[Schedule]
    next_at: datetime | None = None


class Firing(Struct, frozen=True, kw_only=True):
    """What to do at a tick: submit a draft for each due tick, the oldest first.

    schedule: must be unchanged in the store. now: the store's time. next_fire_at: its next tick afterwards. skip: why
    the latest of the ticks without a draft has none. past: those ticks, as the schedule is to remember them.
    """

    schedule: Schedule
    now: datetime
    drafts: tuple[Draft, ...]
    next_fire_at: datetime | None
    skip: Skip | None = None
    past: tuple[PastTick, ...] = ()


class Fired(Struct, frozen=True, kw_only=True):
    """The result of a firing: the schedule afterwards, the tasks submitted, and the tasks cancelled."""

    schedule: Schedule
    submitted: tuple[UUID, ...]
    cancelled: tuple[UUID, ...] = ()
