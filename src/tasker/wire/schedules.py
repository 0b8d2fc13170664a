"""Schedules: rules that submit tasks."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from tasker.model.keys import Scope
from tasker.model.schedules import Missed, Overlap
from tasker.wire.shapes import Always, Moment, Sometimes, choices, like

SkipReason = Literal["missed", "overlap", "refused"]
PastSkip = Literal["missed", "overlap", "limit_reached", "refused"]
Submission = Annotated[dict[str, Any], like("Submission")]


class SkippedTick(Struct, frozen=True, kw_only=True):
    """A tick that submitted nothing: it was `missed`, an earlier task was open (`overlap`), or it was `refused`."""

    tick: Moment
    reason: Annotated[str, choices(SkipReason)]
    detail: Always[str] = ""


class PastTick(Struct, frozen=True, kw_only=True):
    """What became of a tick, handled at `fired_at`: it submitted the task `task_id`, or it was `skipped`.

    skipped: null, or why. `missed`: nothing fired it in time. `overlap`: an earlier task was open, or a later tick
    replaced it. `limit_reached`: its owner has open tasks in too many queues. `refused`: `detail` says why.
    """

    tick: Moment
    fired_at: Moment
    task_id: UUID | None = None
    skipped: Annotated[str, choices(PastSkip)] | None = None
    detail: Always[str] = ""


class Schedule(Struct, frozen=True, kw_only=True):
    """A rule that submits `task` at each of its ticks. `interval` is in seconds.

    next_fire_at: its next tick, null while it is paused and after its last one. last_fired_at: the latest tick that
    submitted a task, `last_task_id` (or that of a trigger since). last_skip: the latest tick that did not. firings: the
    last 20 ticks, newest first; only with `?include=firings`. scopes: what it may do: the scopes of the key that made
    it or last set `task` or `overlap`.

    A key without the scope `read` gets a ScheduleReceipt instead.
    """

    # The client reads a receipt as a Schedule, too: hence the defaults.

    schedule_id: UUID
    name: Always[str] = ""
    task: Always[Submission] = {}
    cron: Always[str | None] = None
    interval: Always[float | None] = None
    time_zone: Always[str] = "UTC"
    missed: Always[Annotated[str, choices(Missed)]] = "once"
    overlap: Always[Annotated[str, choices(Overlap)]] = "allow"
    paused: Always[bool] = False
    starts_at: Always[Moment | None] = None
    ends_at: Always[Moment | None] = None
    next_fire_at: Always[Moment | None] = None
    last_fired_at: Always[Moment | None] = None
    last_task_id: Always[UUID | None] = None
    last_skip: Always[SkippedTick | None] = None
    firings: Sometimes[list[PastTick]] | UnsetType = UNSET
    scopes: Always[list[Annotated[str, choices(Scope)]]] = []
    created_at: Always[Moment] | None = None
    updated_at: Always[Moment] | None = None
    links: Always[dict[str, str]] = {}


class ScheduleReceipt(Struct, frozen=True, kw_only=True):
    """A schedule for a key without the scope `read`: its id, and what this request has set."""

    schedule_id: UUID
    name: str | UnsetType = UNSET
    task: Submission | UnsetType = UNSET
    cron: str | UnsetType | None = UNSET
    interval: float | UnsetType | None = UNSET
    time_zone: str | UnsetType = UNSET
    missed: Missed | UnsetType = UNSET
    overlap: Overlap | UnsetType = UNSET
    paused: bool | UnsetType = UNSET
    starts_at: Moment | UnsetType | None = UNSET
    ends_at: Moment | UnsetType | None = UNSET
    links: dict[str, str]


class SchedulePage(Struct, frozen=True, kw_only=True):
    """A slice of the list of schedules, newest first; `next_cursor` is opaque, null at the end."""

    items: list[Schedule]
    next_cursor: Always[str | None] = None


class TickPage(Struct, frozen=True, kw_only=True):
    """The next ticks, in order; `next_cursor` is always null."""

    items: list[Moment]
    next_cursor: Always[str | None] = None
