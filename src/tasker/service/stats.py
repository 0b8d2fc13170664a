"""The use case of statistics: what happened to tasks in a window of time, and how many are open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from tasker.clock import Clock
from tasker.engines.protocol import StatsStore
from tasker.model import PartitionStats
from tasker.model.keys import Caller
from tasker.model.stats import BEFORE, WINDOWS, Figures, StatsFilter, StatsGroup, StatsRow, Window, sum_up

MOST_GROUPS = 100
"""Groups in one answer, those first in which most happened: to bound its size. The totals count all."""


class Open(Struct, frozen=True, kw_only=True):
    """Numbers of open tasks. pending: due ones; later: those that wait for a time or for other tasks."""

    pending: int = 0
    later: int = 0
    running: int = 0
    oldest_due_at: datetime | None = None


class Part(Struct, frozen=True, kw_only=True):
    """What happened to the tasks of one group, or to all.

    steps: the figures of each step, oldest first; total: their sum; before: the sum of the window before.
    """

    name: str | None
    total: Figures
    before: Figures
    steps: list[Figures]
    open: Open


class Stats(Struct, frozen=True, kw_only=True):
    """Statistics of a window from `first` to `last`, in steps of `step`; the last step is under way."""

    first: datetime
    last: datetime
    step: timedelta
    whole: Part
    groups: list[Part]


class StatsService:
    """Reports what happened to tasks."""

    def __init__(self, store: StatsStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def find(
        self,
        caller: Caller,
        *,
        window: Window = "1h",
        group: StatsGroup = "none",
        owner: str | None = None,
        type: str | None = None,
        queue: str | None = None,
    ) -> Stats:
        """Return what happened to the tasks that the caller sees; of an owner, a type and a queue only, if given."""
        span = WINDOWS[window]
        whose = caller.only if owner is None else owner
        where = StatsFilter(span=span, now=self._clock.now(), owner=whose, type=type, queue=queue, group=group)
        rows: list[StatsRow] = []
        counts: list[PartitionStats] = []
        if owner is None or caller.sees(owner):
            rows = await self._store.window(where)
            open_now = await self._store.open_counts(whose, queues=None if queue is None else [queue])
            counts = [one for one in open_now if type in (None, one.type)]
        whole = _part(None, rows, counts, span.steps)
        return Stats(
            first=datetime.fromtimestamp(where.first, UTC),
            last=datetime.fromtimestamp(where.until, UTC),
            step=timedelta(seconds=span.step),
            whole=whole,
            groups=[] if group == "none" else _groups(where, rows, counts),
        )


def _groups(where: StatsFilter, rows: Iterable[StatsRow], counts: Iterable[PartitionStats]) -> list[Part]:
    """Return a part for each group, in order of their names; of many, those in which most happened."""
    by_name: dict[str, tuple[list[StatsRow], list[PartitionStats]]] = {}
    for row in rows:
        by_name.setdefault(row.name, ([], []))[0].append(row)
    for one in counts:
        by_name.setdefault(where.name_of(one.type, one.queue), ([], []))[1].append(one)
    busiest = sorted(by_name, key=lambda name: -_weight(*by_name[name]))[:MOST_GROUPS]
    return [_part(name, *by_name[name], where.span.steps) for name in sorted(busiest)]


def _weight(rows: Iterable[StatsRow], counts: Iterable[PartitionStats]) -> int:
    happened = sum(row.figures.submitted + row.figures.started for row in rows)
    return happened + sum(one.pending + one.scheduled + one.running for one in counts)


def _part(name: str | None, rows: Sequence[StatsRow], counts: Sequence[PartitionStats], steps: int) -> Part:
    """Return the figures of some rows, which may be of several groups, and of some counts."""
    by_step: dict[int, list[Figures]] = {}
    for row in rows:
        by_step.setdefault(row.step, []).append(row.figures)
    before = sum_up(by_step.pop(BEFORE, []))
    figures = [sum_up(by_step.get(step, [])) for step in range(steps)]
    oldest = [one.oldest_due_at for one in counts if one.oldest_due_at is not None]
    return Part(
        name=name,
        total=sum_up([one for some in by_step.values() for one in some]),
        before=before,
        steps=figures,
        open=Open(
            pending=sum(one.pending for one in counts),
            later=sum(one.scheduled for one in counts),
            running=sum(one.running for one in counts),
            oldest_due_at=min(oldest, default=None),
        ),
    )
