"""How long attempts ran: a histogram whose buckets grow by a factor, with the times that half and 95 % stay within."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from markupsafe import Markup

from tasker.web.charts.svg import element, joined, percent
from tasker.web.times import duration

_WIDTH = 10
_TALLEST = 84.0
_LABELS = 5


class Column(NamedTuple):
    """A bucket: its height in percent, and whether it lies above p95."""

    height: float
    is_slow: bool
    said: str


class Layout(NamedTuple):
    """Columns from the first to the last that holds a run, the places of p50 and p95, and labels along the axis."""

    columns: list[Column]
    marks: list[tuple[float, str]]
    labels: list[tuple[float, str]]


def lay_out(counts: Sequence[int], edges: Sequence[timedelta], p50: timedelta | None, p95: timedelta | None) -> Layout:
    """Return the layout. Bucket i holds the times from edges[i] to edges[i + 1], above 0; so there is one edge more."""
    held = [place for place, count in enumerate(counts) if count]
    if not held:
        return Layout([], [], [])
    first, last = held[0], held[-1]
    shown, bounds = counts[first : last + 1], edges[first : last + 2]
    most = max(shown)
    columns = [
        Column(
            max(count / most * _TALLEST, 1.0) if count else 0.0,
            p95 is not None and bounds[place] >= p95,
            f"{duration(bounds[place])} to {duration(bounds[place + 1])}: {count:,}",
        )
        for place, count in enumerate(shown)
    ]
    marks = [(place_of(time, bounds), f"{name} {duration(time)}") for name, time in (("p50", p50), ("p95", p95))
             if time is not None]  # fmt: skip
    every = max(1, math.ceil(len(bounds) / _LABELS))
    labels = [(100 * place / (len(bounds) - 1), duration(bounds[place])) for place in range(0, len(bounds), every)]
    return Layout(columns, marks, labels)


def place_of(time: timedelta, bounds: Sequence[timedelta]) -> float:
    """Return the place of a time between the bounds, in percent; each bucket is equally wide."""
    place = next((place for place, bound in enumerate(bounds) if bound >= time), len(bounds) - 1)
    if place == 0:
        return 0.0
    low, high = bounds[place - 1], bounds[place]
    part = min(max((time - low) / (high - low), 0.0), 1.0)
    return 100 * (place - 1 + part) / (len(bounds) - 1)


def histogram(
    counts: Sequence[int], edges: Sequence[timedelta], p50: timedelta | None, p95: timedelta | None
) -> Markup:
    """Return the chart, or nothing without a run; see `lay_out` for its arguments."""
    layout = lay_out(counts, edges, p50, p95)
    if not layout.columns:
        return Markup("")
    inner = element(
        "svg",
        joined([_column(place, column) for place, column in enumerate(layout.columns)]),
        width="100%",
        height="86%",
        viewBox=f"0 0 {len(layout.columns) * _WIDTH} 100",
        preserveAspectRatio="none",
    )
    labels = [
        element("text", text, x=percent(place), y="99%", text_anchor=_anchor(place)) for place, text in layout.labels
    ]
    marks = [_mark(place, text, is_first=not number) for number, (place, text) in enumerate(layout.marks)]
    said = ", ".join(text for _, text in layout.marks)
    return element(
        "svg",
        joined([inner, *labels, *marks]),
        class_="chart hist",
        role="img",
        aria_label=f"{sum(counts):,} runs: {said}" if said else f"{sum(counts):,} runs",
    )


def _column(place: int, column: Column) -> Markup:
    rect = element(
        "rect",
        element("title", column.said),
        class_="failed soft" if column.is_slow else "cancelled soft",
        x=place * _WIDTH,
        y=100 - column.height,
        width=8.6,
        height=column.height,
    )
    return element("g", rect, data_say=column.said)


def _mark(place: float, text: str, *, is_first: bool) -> Markup:
    at_left = (is_first and place > 15) or place > 85
    line = element("line", class_="mark", x1=percent(place), x2=percent(place), y1="1%", y2="86%")
    return line + element(
        "text",
        text,
        class_="t",
        x=percent(place),
        y="7%" if is_first else "15%",
        dx=-5 if at_left else 5,
        text_anchor="end" if at_left else "start",
    )


def _anchor(place: float) -> str:
    return "start" if place < 3 else "end" if place > 97 else "middle"
