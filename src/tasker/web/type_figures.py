"""What the pages of task types say about a window of time: figures, small charts, the histogram of run times. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from markupsafe import Markup

from tasker.model.stats import RUN_BOUNDS, Figures
from tasker.service.stats import Part
from tasker.web import times
from tasker.web.charts import histogram, sparkline

_ALARM = 0.05
"""Share of failed tasks from which they are marked."""
_FEW = 10
"""Ended tasks below which a single failure marks nothing."""


class Figure(NamedTuple):
    """A figure: its name, its value and a line below it. href: of the tasks behind it. is_bad: it is marked."""

    name: str
    value: str
    more: str = ""
    href: str = ""
    is_bad: bool = False


class TypeRow(NamedTuple):
    """The figures of a type in the list of types."""

    spark: Markup
    ended: str
    failed: str
    is_bad: bool
    p50: str
    p95: str


def row_of_figures(part: Part) -> TypeRow:
    """Return the figures of a type in the list of types."""
    total = part.total
    return TypeRow(
        spark=sparkline([_ended(step) for step in part.steps], [step.failed for step in part.steps]),
        ended=times.number(_ended(total)),
        failed=times.percent(total.failed, _ended(total)),
        is_bad=_is_bad(total),
        p50=_micros(total.run_percentile(0.5)),
        p95=_micros(total.run_percentile(0.95)),
    )


def figures_of(part: Part, window: str, now: datetime) -> list[Figure]:
    """Return the figures of a type. window: in words."""
    total, before, open_now = part.total, part.before, part.open
    ended, oldest = _ended(total), open_now.oldest_due_at
    later = f"{times.number(open_now.later)} later" if open_now.later else ""
    return [
        Figure(f"Ended, {window}", times.number(ended), f"{times.number(_ended(before))} in the {window} before"),
        Figure(
            "Failed",
            times.percent(total.failed, ended),
            f"{times.number(total.failed)} in all, {times.number(total.retried)} tried again",
            "status=failed",
            _is_bad(total),
        ),
        Figure("Ran, half within", _micros(total.run_percentile(0.5)) or "none", _within(total.run_percentile(0.95))),
        Figure(
            "Waited, half within", _micros(total.wait_percentile(0.5)) or "none", _within(total.wait_percentile(0.95))
        ),
        Figure(
            "Waiting",
            times.number(open_now.pending),
            later if oldest is None else f"oldest since {times.span((now - oldest).total_seconds())}",
            "status=pending",
        ),
        Figure("Running", times.number(open_now.running), "", "status=running"),
    ]


def histogram_of(total: Figures) -> Markup:
    """Return how long attempts ran, or nothing without one."""
    edges = [timedelta(microseconds=bound) for bound in (0, *RUN_BOUNDS, _last_edge(RUN_BOUNDS))]
    return histogram(total.runs, edges, _time(total.run_percentile(0.5)), _time(total.run_percentile(0.95)))


def _last_edge(bounds: Sequence[int]) -> int:
    """Return an end for the bucket that has none: as far as the one before it."""
    return bounds[-1] * bounds[-1] // bounds[-2]


def _ended(figures: Figures) -> int:
    return figures.completed + figures.failed + figures.cancelled


def _is_bad(figures: Figures) -> bool:
    ended = _ended(figures)
    return figures.failed > 0 and figures.failed >= _ALARM * ended and (ended >= _FEW or figures.failed == ended)


def _time(micros: int | None) -> timedelta | None:
    return None if micros is None else timedelta(microseconds=micros)


def _micros(micros: int | None) -> str:
    return times.duration(_time(micros))


def _within(p95: int | None) -> str:
    return "" if p95 is None else f"95 % within {_micros(p95)}"
