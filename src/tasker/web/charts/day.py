"""The next 24 hours of all schedules on one axis: a dot for each tick, a band where ticks are close together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from markupsafe import Markup

from tasker.web.charts.svg import element, joined, percent

DAY = timedelta(days=1)
CLOSE = timedelta(minutes=15)
"""Ticks that are closer than this, several in a row, are one band."""
_FEWEST_OF_A_BAND = 3
_ROW = 22
_HOURS = 4


class Line(NamedTuple):
    """A schedule and its ticks within the next 24 hours, in order.

    is_cut: there are more ticks of the kind than were computed.
    """

    name: str
    ticks: Sequence[datetime]
    is_paused: bool = False
    is_cut: bool = False


class Marks(NamedTuple):
    """The places of a schedule's dots, and of its bands from where to where; in percent."""

    dots: list[float]
    bands: list[tuple[float, float]]


def lay_out(line: Line, now: datetime) -> Marks:
    """Return the dots and the bands of a schedule; none while it is paused."""
    if line.is_paused:
        return Marks([], [])
    dots: list[float] = []
    bands: list[tuple[float, float]] = []
    runs = _runs([tick for tick in line.ticks if now <= tick <= now + DAY])
    for number, run in enumerate(runs, start=1):
        if len(run) < _FEWEST_OF_A_BAND:
            dots += [100 * ((tick - now) / DAY) for tick in run]
        else:
            end = now + DAY if line.is_cut and number == len(runs) else run[-1]
            bands.append((100 * ((run[0] - now) / DAY), 100 * ((end - now) / DAY)))
    return Marks(dots, bands)


def _runs(ticks: Sequence[datetime]) -> list[list[datetime]]:
    """Return ticks in runs of such as are close together."""
    runs: list[list[datetime]] = []
    for tick in ticks:
        if runs and tick - runs[-1][-1] < CLOSE:
            runs[-1].append(tick)
        else:
            runs.append([tick])
    return runs


def hours(now: datetime) -> list[tuple[float, str]]:
    """Return the places of `now` and of every fourth hour of the next 24, in percent, with their labels."""
    found = [(0.0, "now")]
    first = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    for ahead in range(24):
        at = first + timedelta(hours=ahead)
        place = 100 * ((at - now) / DAY)
        if at.hour % _HOURS == 0 and 5 < place < 100:
            found.append((place, f"{at:%H:%M}"))
    return found


def next_day(lines: Sequence[Line], now: datetime) -> Markup:
    """Return the chart; its times are those of `now`'s zone."""
    bottom = len(lines) * _ROW
    grid = [
        element("line", x1=percent(x), x2=percent(x), y1=0, y2=bottom + 4)
        + element(
            "text",
            label,
            x=percent(x),
            y=bottom + 18,
            text_anchor="end" if x > 95 else "middle",
            class_="hs" if number and number % 2 == 0 else None,
        )
        for number, (x, label) in enumerate(hours(now))
    ]
    rows = [_row(line, now, number * _ROW + _ROW // 2) for number, line in enumerate(lines)]
    names = [element("text", line.name, class_="t", x=0, y=number * _ROW + 15) for number, line in enumerate(lines)]
    inner = element("svg", joined(grid + rows), x="24%", width="72%", overflow="visible")
    return element(
        "svg",
        joined([inner, *names]),
        class_="wf",
        height=bottom + 24,
        role="img",
        aria_label="When each schedule fires in the next 24 hours",
    )


def _row(line: Line, now: datetime, y: int) -> Markup:
    if line.is_paused:
        return element("text", "paused", x=0, y=y + 4)
    marks = lay_out(line, now)
    bands = [
        element("rect", class_="running soft", x=percent(a), width=percent(b - a), y=y - 3, height=6, rx=3)
        for a, b in marks.bands
    ]
    return joined([*bands, *(element("circle", class_="running", cx=percent(x), cy=y, r=4) for x in marks.dots)])
