"""Schedules: rules that submit a task at each of their ticks."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from msgspec import Raw, Struct

from tasker.model.drafts import Draft
from tasker.model.keys import ANYBODY, Caller, Scope

Missed = Literal["skip", "once", "all"]
Overlap = Literal["allow", "skip", "replace"]

MISSED_AFTER = timedelta(minutes=1)
"""A tick for which nothing was submitted within this time is a missed one."""
MOST_MISSED = 100
"""So many missed ticks are made up for under `all`: the latest ones."""
KEEP_RECENT = 100
"""So many of a schedule's tasks are looked at to see whether one is still open."""


class Skip(Struct, frozen=True, kw_only=True):
    """Why a tick submitted nothing: it was `missed`, an earlier task is still open (`overlap`), or it was `refused`."""

    tick: datetime
    reason: Literal["missed", "overlap", "refused"]
    detail: str = ""


class Schedule(Struct, frozen=True, kw_only=True):
    """A rule, `cron` in `time_zone` or `interval`, and the submission it makes; `task` is that one's JSON text.

    type: that of `task`. anchor: what the ticks of an interval are counted from. version: grows with each change.
    next_fire_at: its next tick, None while it is paused and when there is none any more. last_fired_at: the latest tick
    that submitted a task, `last_task_id`. recent: its latest tasks, those that may be open among them.
    scopes: those of the key that made it, or last changed what it submits; its tasks are submitted with these.
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
    scopes: tuple[Scope, ...] = ("submit",)
    task: Raw

    @property
    def caller(self) -> Caller:
        """Who submits its tasks. What belongs to nobody was made where everything was allowed."""
        return Caller(owner=self.owner, scopes=frozenset(self.scopes)) if self.owner else ANYBODY


class SchedulePage(Struct, frozen=True, kw_only=True):
    """A slice of a list of schedules, newest first."""

    items: list[Schedule]
    next_cursor: str | None = None


class Due(Struct, frozen=True, kw_only=True):
    """Schedules whose tick has come by `now`, the store's time; `next_at` is when the next other one's comes."""

    now: datetime
    schedules: list[Schedule]
    next_at: datetime | None = None


class Firing(Struct, frozen=True, kw_only=True):
    """What to do at a tick of `schedule`, which must be as it is here: a draft for each tick, the oldest first.

    next_fire_at: its next tick then. skip: what became of ticks that have no draft.
    """

    schedule: Schedule
    drafts: tuple[Draft, ...]
    next_fire_at: datetime | None
    skip: Skip | None = None


class Fired(Struct, frozen=True, kw_only=True):
    """What became of a firing: the schedule as it is now, the tasks that it submitted and those that it cancelled."""

    schedule: Schedule
    submitted: tuple[UUID, ...]
    cancelled: tuple[UUID, ...] = ()
