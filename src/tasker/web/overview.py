"""The overview: what needs somebody, and whether all is well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from markupsafe import Markup

from tasker.api.events import SSE
from tasker.api.replies import Reply, Stream
from tasker.model import PartitionStats, WorkerState
from tasker.model.failures import FailureGroup, FailureWindow
from tasker.model.keys import Caller
from tasker.model.schedules import Schedule
from tasker.model.stats import Figures, Window
from tasker.service import Service
from tasker.service.stats import Part, Stats
from tasker.web import charts, texts, times
from tasker.web.frame import Frame
from tasker.web.live import Live
from tasker.web.needs import MOST_ASKED, Facts, ended_in, find_needs
from tasker.web.page import Visit, show
from tasker.web.queries import WINDOW_NAMES, WINDOW_WORDS, window_parameter

_WINDOW: Window = "1h"
_FAILURES: Mapping[Window, FailureWindow] = {"15m": "1h", "1h": "1h", "24h": "24h", "7d": "7d", "30d": "30d"}
_ROWS = 10
"""Rows of each table; what is left is a link away."""
_LONGEST = 5
_TICKS = 5
_MOST_SCHEDULES = 500
_KNOWN_FOR = 5.0
"""Seconds for which the next ticks are shown again: there may be many schedules to read."""
_MOST_OWNERS = 1000
_PARTS = ("needs", "figures", "ended", "types", "queues", "failures", "longest", "ticks")
_MICROS = 1_000_000


class Figure(NamedTuple):
    """One of the large figures. more: the small text below. line: its values over the window."""

    name: str
    value: str
    more: str
    href: str
    line: Markup
    is_bad: bool = False


class TypeRow(NamedTuple):
    """A type in the window."""

    name: str
    ended: int
    share: str
    is_bad: bool
    waited: str
    p50: str
    p95: str
    waiting: int
    running: int
    spark: Markup


class QueueRow(NamedTuple):
    """A queue now. slots: its limit, None for none."""

    name: str
    waiting: int
    oldest: datetime | None
    running: int
    slots: int | None
    is_paused: bool


class RunningRow(NamedTuple):
    """An attempt that runs. note: what it says of its progress."""

    task_id: str
    type: str
    note: str
    ran: str


class OverviewPages:
    """Show what happens. silent_after: the lease of an attempt."""

    def __init__(self, frame: Frame, service: Service, live: Live, *, silent_after: timedelta) -> None:
        self._frame = frame
        self._service = service
        self._live = live
        self._silent_after = silent_after
        self._known: dict[str | None, tuple[float, list[Schedule]]] = {}

    @show("/", parameters=(window_parameter("window", "The time that is shown."),), nav="Overview", icon="overview")
    async def overview(self, visit: Visit) -> Reply:
        window: Window = visit.query.get("window", _WINDOW)
        data = await self._read(visit.caller, window)
        return self._frame.render(
            visit, "overview.html", page="overview", windows=WINDOW_NAMES, d=data, live=f"live/overview?window={window}"
        )

    @show("/live/overview", parameters=(window_parameter("window", "The time that is shown."),), media=SSE)
    async def live_overview(self, visit: Visit) -> Stream:
        """Stream the parts of the overview, made once for all who see the same."""
        window: Window = visit.query.get("window", _WINDOW)
        caller = visit.caller

        async def render() -> dict[str, str]:
            data = await self._read(caller, window)
            names = () if data["is_empty"] else (*_PARTS, "welcome")
            return {name: self._frame.part("overview_parts.html", name, d=data) for name in names}

        return self._live.board(visit, ("overview", caller.only, caller.scopes, window), render)

    async def _read(self, caller: Caller, window: Window) -> dict[str, Any]:
        """Return everything that the templates show."""
        now = self._frame.clock.now()
        stats = await self._service.stats.find(caller, window=window, group="type")
        counts = await self._service.queues.stats(caller)
        settings = await self._service.queues.settings()
        workers = await self._service.workers.find_all(caller)
        failures = await self._service.failures.find_many(caller, window=_FAILURES[window], limit=_ROWS)
        fleet = [worker for worker in workers if now - worker.heartbeat_at <= self._silent_after]
        silent = [worker for worker in workers if now - worker.heartbeat_at > self._silent_after]
        samples = {group.type: (_error_of(group), group.failure_id) for group in reversed(failures.items)}
        asked = await self._service.steps.questions(caller, limit=MOST_ASKED + 1)
        needs = find_needs(
            Facts(now, stats.groups, counts, settings, fleet, silent, samples, caller.may("admin"), asked)
        )
        types = sorted((_type_row(part) for part in stats.groups), key=lambda row: (-row.is_bad, -row.ended, row.name))
        queues = _queue_rows(counts, settings)
        return {
            "now": now,
            "window": window,
            "span": WINDOW_WORDS[window],
            "may": {scope: caller.may(scope) for scope in ("submit", "control", "admin")},
            "is_empty": not stats.groups and not counts,
            "needs": needs,
            "figures": _figures(stats, fleet, window, now),
            "ended": _chart(stats, WINDOW_WORDS[window]),
            "total": stats.whole.total,
            "types": types[:_ROWS],
            "all_types": len(types),
            "queues": queues[:_ROWS],
            "all_queues": len(queues),
            "failures": [(group, _error_of(group)) for group in failures.items],
            "longest": await self._longest(caller, workers, now),
            "slots": (
                sum(len(one.running) for one in fleet),
                sum(one.info.slots + one.info.processes for one in fleet),
            ),
            "ticks": await self._ticks(caller),
        }

    async def _longest(self, caller: Caller, workers: Sequence[WorkerState], now: datetime) -> list[RunningRow]:
        """Return the attempts that have been running longest."""
        running = sorted((one for worker in workers for one in worker.running), key=lambda one: one.started_at)
        rows = []
        for one in running[:_LONGEST]:
            task = await self._service.tasks.find(caller, one.task_id)
            progress = None if task is None else task.progress
            note = "" if progress is None else progress.message or ""
            rows.append(
                RunningRow(
                    str(one.task_id), one.type, texts.line(note, 80), times.span((now - one.started_at).total_seconds())
                )
            )
        return rows

    async def _ticks(self, caller: Caller) -> list[Schedule]:
        """Return the schedules that fire next, of the newest _MOST_SCHEDULES."""
        now = self._frame.clock.monotonic()
        at, known = self._known.get(caller.only, (-_KNOWN_FOR, []))
        if now - at >= _KNOWN_FOR:
            page = await self._service.schedules.find_many(caller, limit=_MOST_SCHEDULES)
            due = [one for one in page.items if one.next_fire_at is not None]
            known = sorted(due, key=lambda one: (one.next_fire_at, one.name))[:_TICKS]
            self._known = {} if len(self._known) > _MOST_OWNERS else self._known
            self._known[caller.only] = now, known
        return known


def _error_of(group: FailureGroup) -> str:
    """Return the latest error of a group in one line, or else what its errors have in common."""
    if group.sample is not None:
        return texts.line(group.sample.detail, 160)
    name = group.exception.rpartition(".")[2]
    return texts.line(": ".join(part for part in (name, group.message) if part) or group.problem, 160)


def _figures(stats: Stats, fleet: Sequence[WorkerState], window: Window, now: datetime) -> list[Figure]:
    whole = stats.whole
    total, before, steps, open_ = whole.total, whole.before, whole.steps, whole.open
    ended, ended_before = ended_in(whole), before.completed + before.failed + before.cancelled
    minutes = max(1.0, (stats.last - stats.first).total_seconds() / 60)
    slots = sum(one.info.slots + one.info.processes for one in fleet)
    oldest = None if open_.oldest_due_at is None else times.span((now - open_.oldest_due_at).total_seconds())
    waits = f"oldest {oldest}" if oldest else f"{times.number(open_.later)} later"
    workers = f"of {times.number(slots)} slots, {len(fleet)} worker{'s' if len(fleet) != 1 else ''}"
    shares = f"{times.percent(total.failed, ended)}, was {times.percent(before.failed, ended_before)}"
    rows = (
        ("Waiting", times.number(open_.pending), waits, "tasks?status=pending", [one.submitted for one in steps]),
        ("Running", times.number(open_.running), workers, "tasks?status=running", [one.started for one in steps]),
        (
            "Completed",
            times.number(total.completed),
            _pace(total.completed, before.completed, minutes),
            f"tasks?status=completed&since={window}",
            [one.completed for one in steps],
        ),
        (
            "Failed",
            times.number(total.failed),
            shares,
            f"tasks?status=failed&since={window}",
            [one.failed for one in steps],
        ),
        (
            "Waited, p95",
            _seconds(total.wait_percentile(0.95)),
            f"half within {_seconds(total.wait_percentile(0.5))}",
            "queues",
            [one.wait_percentile(0.95) or 0 for one in steps],
        ),
        (
            "Ran, p95",
            _seconds(total.run_percentile(0.95)),
            f"half within {_seconds(total.run_percentile(0.5))}",
            "types",
            [one.run_percentile(0.95) or 0 for one in steps],
        ),
    )
    return [
        Figure(name, value, more, href, charts.line(line), name == "Failed" and total.failed > 0)
        for name, value, more, href, line in rows
    ]


def _pace(count: int, before: int, minutes: float) -> str:
    """Return a count as a rate, and how it has changed since the window before."""
    rate = count / minutes
    text = f"{times.number(round(rate))} a minute" if rate >= 10 else f"{rate:.1f} a minute"
    if not before:
        return text
    change = round(100 * (count - before) / before)
    sign = "+" if change > 0 else "\N{MINUS SIGN}" if change < 0 else "±"
    return f"{text}, {sign}{abs(change)} %"


def _seconds(micros: int | None) -> str:
    return "\N{EN DASH}" if micros is None else times.duration(micros / _MICROS)


def _chart(stats: Stats, window: str) -> Markup:
    """Return the chart of what ended in each step."""
    buckets = [
        charts.Bucket(stats.first + place * stats.step, one.completed, one.failed, one.cancelled)
        for place, one in enumerate(stats.whole.steps)
    ]
    total = stats.whole.total
    label = (
        f"Tasks ended in the last {window}: {total.completed:,} completed, {total.failed:,} failed, "
        f"{total.cancelled:,} cancelled"
    )
    return charts.bars(buckets, label=label, readout="ended-legend")


def _type_row(part: Part) -> TypeRow:
    total = part.total
    ended = ended_in(part)
    return TypeRow(
        name=part.name or "",
        ended=ended,
        share=times.percent(total.failed, ended),
        is_bad=total.failed >= 3 and total.failed * 10 >= ended,
        waited=_seconds(total.wait_percentile(0.95)),
        p50=_seconds(total.run_percentile(0.5)),
        p95=_seconds(total.run_percentile(0.95)),
        waiting=part.open.pending,
        running=part.open.running,
        spark=charts.sparkline([_ended(one) for one in part.steps], [one.failed for one in part.steps]),
    )


def _ended(figures: Figures) -> int:
    return figures.completed + figures.failed + figures.cancelled


def _queue_rows(counts: Sequence[PartitionStats], settings: Mapping[str, Any]) -> list[QueueRow]:
    """Return the queues that have open tasks or are paused, the longest first."""
    names = {one.queue for one in counts} | {name for name, one in settings.items() if one.paused}
    rows = [_queue_row(name, [one for one in counts if one.queue == name], settings.get(name)) for name in names]
    return sorted(rows, key=lambda row: (-row.waiting, -row.running, row.name))


def _queue_row(name: str, counts: Sequence[PartitionStats], settings: Any) -> QueueRow:
    return QueueRow(
        name=name,
        waiting=sum(one.pending for one in counts),
        oldest=min((one.oldest_due_at for one in counts if one.oldest_due_at is not None), default=None),
        running=sum(one.running for one in counts),
        slots=None if settings is None else settings.concurrency,
        is_paused=settings is not None and settings.paused,
    )
