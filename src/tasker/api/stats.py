"""The operation on statistics: what happened to tasks in a window of time, and how many are open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tasker.api.calls import Call, Parameter, one_of, text_parameter
from tasker.api.operation import get, ok
from tasker.api.replies import Reply, json_reply
from tasker.model.stats import RUN_BOUNDS, STATS_GROUPS, WAIT_BOUNDS, WINDOWS, Figures, percentile
from tasker.service.stats import Part, StatsService
from tasker.wire import stats as wire
from tasker.wire.shapes import show

_COUNTS = wire.Counts.__struct_fields__


def _choice(name: str, description: str, choices: Iterable[str]) -> Parameter:
    names = tuple(choices)
    return Parameter(name, description, {"type": "string", "enum": list(names)}, one_of(*names))


STATS_PARAMETERS = (
    _choice("window", "How far to look back; by default 1h.", WINDOWS),
    _choice("group", "What to tell apart; by default none.", STATS_GROUPS),
    text_parameter("type", "Only tasks of this type."),
    text_parameter("queue", "Only tasks in this queue."),
    text_parameter("owner", "Only tasks of this owner; without the scope admin, only one's own."),
)


@dataclass
class StatsOperations:
    """Show what happened to tasks, and how many are open."""

    tag = "stats"

    _stats: StatsService

    @get(
        "/stats",
        "Read what happened to tasks in a window of time, and how many are open",
        ok("Counts, run times and waiting times, by steps and groups.", wire.Stats),
        parameters=STATS_PARAMETERS,
    )
    async def get_stats(self, call: Call) -> Reply:
        query = {"window": "1h", "group": "none"} | call.query()
        stats = await self._stats.find(call.caller, **query)
        whole = stats.whole
        view = wire.Stats(
            window=query["window"],
            group=query["group"],
            first=stats.first,
            last=stats.last,
            step=int(stats.step.total_seconds()),
            total=_happened(whole.total),
            before=_happened(whole.before),
            series=_steps(whole),
            open=show(wire.OpenTasks, whole.open),
            items=[_item(group) for group in stats.groups],
        )
        return json_reply(view)


def _item(part: Part) -> wire.StatsItem:
    return wire.StatsItem(
        name=part.name or "",
        total=_happened(part.total),
        before=_happened(part.before),
        series=wire.Counts(**_counts(part)),
        open=show(wire.OpenTasks, part.open),
    )


def _counts(part: Part) -> dict[str, list[int]]:
    return {name: [getattr(step, name) for step in part.steps] for name in _COUNTS}


def _steps(part: Part) -> wire.Steps:
    """Return the steps of a part with their times."""
    return wire.Steps(
        **_counts(part),
        run_p50=[_seconds(step.run_percentile(0.5)) for step in part.steps],
        run_p95=[_seconds(step.run_percentile(0.95)) for step in part.steps],
        wait_p50=[_seconds(step.wait_percentile(0.5)) for step in part.steps],
        wait_p95=[_seconds(step.wait_percentile(0.95)) for step in part.steps],
    )


def _happened(figures: Figures) -> wire.Happened:
    return show(
        wire.Happened,
        figures,
        run=_times(figures.runs, RUN_BOUNDS, figures.run_time),
        wait=_times(figures.waits, WAIT_BOUNDS, figures.wait_time),
    )


def _times(histogram: Sequence[int], bounds: Sequence[int], total: int) -> wire.Times:
    count = sum(histogram)
    return wire.Times(
        mean=_seconds(total // count) if count else None,
        p50=_seconds(percentile(histogram, bounds, total, 0.5)),
        p95=_seconds(percentile(histogram, bounds, total, 0.95)),
    )


def _seconds(micros: int | None) -> float | None:
    return None if micros is None else micros / 1e6
