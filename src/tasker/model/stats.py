"""Statistics: what has happened to tasks, in sums by minute and hour, and how many are open.

Times are counted in histograms: 32 buckets for run times, 16 for waiting times. The first bucket ends at RUN_BOUNDS[0]
or WAIT_BOUNDS[0], each other one 1.6 times as far as the one before it; the last one has no end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from msgspec import Struct

Window = Literal["15m", "1h", "24h", "7d", "30d"]
StatsGroup = Literal["type", "queue", "none"]
STATS_GROUPS: tuple[StatsGroup, ...] = ("none", "type", "queue")

MINUTE, HOUR = 60, 3600
"""The lengths of the sums that are kept, in seconds."""
KEEP_MINUTES, KEEP_HOURS = timedelta(hours=48), timedelta(days=90)
"""How long sums by minute and by hour are kept."""
MOST_QUEUES = 200
"""Queues of an owner that one hour counts by name; what happens in others counts under OTHER."""
OTHER = "other"
ALL_OWNERS = "\t*"
"""Stands for all owners together, where sums are kept; no owner has a name with a tab."""

COUNTS = ("submitted", "started", "completed", "failed", "cancelled", "retried", "run_time", "wait_time")
"""The sums, besides the histograms. Times are microseconds."""
_FACTOR = 1.6
RUN_BOUNDS = tuple(round(1_000 * _FACTOR**power) for power in range(31))
"""The ends of all but the last bucket of run times, in microseconds: 1 ms to 22 minutes."""
WAIT_BOUNDS = tuple(round(50_000 * _FACTOR**power) for power in range(15))
"""The ends of all but the last bucket of waiting times, in microseconds: 50 ms to 36 seconds."""


class Span(NamedTuple):
    """A window: how many steps it has, the length of each in seconds, and the length of the sums that it reads."""

    steps: int
    step: int
    unit: int

    @property
    def seconds(self) -> int:
        """The length of the window."""
        return self.steps * self.step


WINDOWS: dict[Window, Span] = {
    "15m": Span(15, MINUTE, MINUTE),
    "1h": Span(60, MINUTE, MINUTE),
    "24h": Span(24, HOUR, HOUR),
    "7d": Span(168, HOUR, HOUR),
    "30d": Span(120, 6 * HOUR, HOUR),
}


def run_bucket(micros: int) -> int:
    """Return the place of a run time in its histogram."""
    return bisect_right(RUN_BOUNDS, micros)


def wait_bucket(micros: int) -> int:
    """Return the place of a waiting time in its histogram."""
    return bisect_right(WAIT_BOUNDS, micros)


class Figures(Struct):
    """What happened to some tasks in some time.

    submitted: tasks that were stored. started: attempts that began. completed, failed, cancelled: tasks that ended so.
    retried: tasks that became pending again, after a failure or by hand. run_time: of the attempts that ended, except
    those that were interrupted. wait_time: from the time that a task was due to its start. Both in microseconds, with
    histograms: `runs` by RUN_BOUNDS, `waits` by WAIT_BOUNDS.
    """

    submitted: int = 0
    started: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    retried: int = 0
    run_time: int = 0
    wait_time: int = 0
    runs: Sequence[int] = (0,) * (len(RUN_BOUNDS) + 1)
    waits: Sequence[int] = (0,) * (len(WAIT_BOUNDS) + 1)

    def run_percentile(self, share: float) -> int | None:
        """Return the run time, in microseconds, that a share of the attempts did not exceed; None without attempts."""
        return percentile(self.runs, RUN_BOUNDS, self.run_time, share)

    def wait_percentile(self, share: float) -> int | None:
        """Do the same for waiting times."""
        return percentile(self.waits, WAIT_BOUNDS, self.wait_time, share)


def sum_up(figures: Sequence[Figures]) -> Figures:
    """Return the sum of figures."""
    if len(figures) == 1:
        return figures[0]
    if not figures:
        return Figures()
    return Figures(
        **{name: sum([getattr(one, name) for one in figures]) for name in COUNTS},
        runs=list(map(sum, zip(*(one.runs for one in figures), strict=True))),
        waits=list(map(sum, zip(*(one.waits for one in figures), strict=True))),
    )


class StatsFilter(Struct, frozen=True, kw_only=True):
    """Which sums to read: those of a window that ends with the step that `now` is in.

    owner: None for all owners together. type, queue: None for all. group: what to tell apart.
    """

    span: Span
    now: datetime
    owner: str | None = None
    type: str | None = None
    queue: str | None = None
    group: StatsGroup = "none"

    @property
    def first(self) -> int:
        """When the window begins, in seconds since 1970: a multiple of its step."""
        end = int(self.now.timestamp()) // self.span.step + 1
        return (end - self.span.steps) * self.span.step

    @property
    def before(self) -> int:
        """When the window before it begins."""
        return self.first - self.span.seconds

    @property
    def until(self) -> int:
        """When the window ends: at the end of the step under way."""
        return self.first + self.span.seconds

    def holds(self, owner: str, type_: str, queue: str) -> bool:
        """Tell whether it selects tasks of an owner and a type in a queue."""
        return self.owner in (None, owner) and self.type in (None, type_) and self.queue in (None, queue)

    def name_of(self, type_: str, queue: str) -> str:
        """Return the name of the group to which a type in a queue belongs."""
        return {"type": type_, "queue": queue, "none": ""}[self.group]

    def place_of(self, moment: int) -> int | None:
        """Return the step that a time (seconds) is in; BEFORE for the window before, None if it is in neither."""
        if not self.before <= moment < self.until:
            return None
        return BEFORE if moment < self.first else (moment - self.first) // self.span.step


BEFORE = -1
"""Stands for the step of what happened in the window before."""


class StatsRow(Struct, frozen=True):
    """What happened in one step to one group. step: 0 for the first of the window; BEFORE for all of the one before."""

    step: int
    name: str
    figures: Figures


def percentile(histogram: Sequence[int], bounds: Sequence[int], total: int, share: float) -> int | None:
    """Estimate the value that `share` of the values do not exceed; None if there are none.

    Between the bounds of a bucket it grows evenly. Of the last bucket, which has no end, it is the mean, which follows
    from the values' `total`.
    """
    count = sum(histogram)
    if not count:
        return None
    rank, seen = share * count, 0
    for place, number in enumerate(histogram[:-1]):
        if number and seen + number >= rank:
            low = bounds[place - 1] if place else 0
            return low + round((bounds[place] - low) * max(0.0, rank - seen) / number)
        seen += number
    lows = (0, *bounds)
    others = sum(number * (low + high) // 2 for number, low, high in zip(histogram[:-1], lows, bounds, strict=False))
    return max(bounds[-1], (total - others) // histogram[-1])
