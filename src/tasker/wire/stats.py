"""Statistics: what happened to tasks in a window of time, and how many are open."""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct

from tasker.model.stats import StatsGroup, Window
from tasker.wire.shapes import Always, Moment, choices


class Times(Struct, frozen=True, kw_only=True):
    """Durations in seconds: their mean, and estimates that half and 95 % of them did not exceed; null without any."""

    mean: float | None
    p50: float | None
    p95: float | None


class Happened(Struct, frozen=True, kw_only=True):
    """What happened. `submitted`: tasks stored. `started`: attempts begun. `completed`, `failed`, `cancelled`: tasks.

    `retried`: tasks that became pending again after a failure, or by hand. `run`: how long attempts ran. `wait`: how
    long tasks waited from when they were due to their start.
    """

    submitted: int
    started: int
    completed: int
    failed: int
    cancelled: int
    retried: int
    run: Times
    wait: Times


class Counts(Struct, frozen=True, kw_only=True):
    """What happened in each step of the window, oldest first."""

    submitted: list[int]
    started: list[int]
    completed: list[int]
    failed: list[int]
    cancelled: list[int]
    retried: list[int]


class Steps(Counts, frozen=True, kw_only=True):
    """The same with the times: seconds that half and 95 % of them did not exceed, null in steps without any."""

    run_p50: list[float | None]
    run_p95: list[float | None]
    wait_p50: list[float | None]
    wait_p95: list[float | None]


class OpenTasks(Struct, frozen=True, kw_only=True):
    """How many tasks are open now. `pending`: due. `later`: they wait for a time or for other tasks.

    `oldest_due_at`: when the longest-waiting due task became due; null if none is due.
    """

    pending: int
    later: int
    running: int
    oldest_due_at: Moment | None


class StatsItem(Struct, frozen=True, kw_only=True):
    """The tasks of one type or queue, as `name` says. `before`: in the window before."""

    name: str
    total: Happened
    before: Happened
    series: Counts
    open: OpenTasks


class Stats(Struct, frozen=True, kw_only=True, rename={"first": "from", "last": "to"}):
    """What happened from `from` to `to`, in steps of `step` seconds, of which the last is under way.

    `before`: in the window of the same length before. `items`: by type or queue; empty if `group` is `none`. Of more
    than 100, those in which most happened; the totals count all.
    """

    window: Annotated[str, choices(Window)]
    group: Annotated[str, choices(StatsGroup)]
    first: Moment
    last: Moment
    step: int
    total: Happened
    before: Happened
    series: Steps
    open: OpenTasks
    items: Always[list[StatsItem]] = []
