"""What ended in each minute (or other bucket): a bar above the axis, failures below it on a scale of their own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from markupsafe import Markup

from tasker.web.charts.scales import multiples, round_up, show_offset, step_for
from tasker.web.charts.svg import element, joined, percent

_TOP, _AXIS, _BOTTOM = 2, 66, 88
"""Places in percent of the height: of the largest count, of zero, and of the most failures."""
_UP, _DOWN = _AXIS - _TOP, _BOTTOM - _AXIS
_WIDTH = 10
_GAP = 1


class Bucket(NamedTuple):
    """How many tasks ended how in a bucket that begins at `start`."""

    start: datetime
    completed: int = 0
    failed: int = 0
    cancelled: int = 0


class Bar(NamedTuple):
    """Heights in percent of the chart."""

    completed: float
    cancelled: float
    failed: float


class Layout(NamedTuple):
    """A chart's scales and bars. labels: what the lines stand for, from the top; None for no failures."""

    labels: tuple[int, int, int, int, int | None]
    bars: list[Bar]
    times: list[tuple[float, str]]


def lay_out(buckets: Sequence[Bucket]) -> Layout:
    """Return the scales, the bars, and where which time stands. A bucket is as long as the first."""
    third = round_up(max((one.completed + one.cancelled for one in buckets), default=0) / 3)
    most_failed = max((one.failed for one in buckets), default=0)
    down = round_up(most_failed)
    bars = [
        Bar(
            _UP * one.completed / (3 * third),
            _UP * one.cancelled / (3 * third),
            _DOWN * one.failed / down,
        )
        for one in buckets
    ]
    return Layout((3 * third, 2 * third, third, 0, down if most_failed else None), bars, _times(buckets))


def _times(buckets: Sequence[Bucket]) -> list[tuple[float, str]]:
    """Return the places of times, in percent, as lengths before the end."""
    if len(buckets) < 2:
        return []
    length = (buckets[1].start - buckets[0].start) * len(buckets)
    found = [
        (100 * (1 - ago / length), f"\N{MINUS SIGN}{show_offset(ago)[1:]}" if ago else "now")
        for ago in multiples(step_for(length), timedelta(0), length * 0.97)
    ]
    return found[::-1]


def bars(buckets: Sequence[Bucket], *, label: str, readout: str | None = None) -> Markup:
    """Return the chart. label: what it shows, in words. readout: the id of what tells of the bar pointed at."""
    layout = lay_out(buckets)
    places = (_TOP, _TOP + _UP / 3, _TOP + 2 * _UP / 3, _AXIS, _BOTTOM)
    labels = [
        element("text", f"{value:,}", x="100%", y=percent(place), dy=4, text_anchor="end")
        for place, value in zip(places, layout.labels, strict=True)
        if value is not None
    ]
    lines = [element("line", x2="100%", y1=percent(place), y2=percent(place)) for place in places]
    inner = element(
        "svg",
        joined([_bar(place, *pair) for place, pair in enumerate(zip(buckets, layout.bars, strict=True))]),
        y=percent(_TOP),
        width="100%",
        height=percent(_UP + _DOWN),
        viewBox=f"0 0 {max(len(buckets), 1) * _WIDTH} {_UP + _DOWN}",
        preserveAspectRatio="none",
    )
    times = [
        element("text", text, x=percent(place), y="99%", text_anchor="end" if place > 95 else "middle")
        for place, text in layout.times
    ]
    chart = element(
        "svg", joined([*lines, inner, *times]), class_="chart", role="img", aria_label=label, data_readout=readout
    )
    axis = element("svg", joined(labels), class_="chart", aria_hidden="true")
    return element("div", axis, chart, class_="axes")


def _bar(place: int, bucket: Bucket, bar: Bar) -> Markup:
    x, width = place * _WIDTH + _GAP, _WIDTH - 2 * _GAP
    parts = [element("rect", fill="#0000", x=place * _WIDTH, width=_WIDTH, height=_UP + _DOWN)]
    below = float(_UP)
    for name, height in (("completed soft", bar.completed), ("cancelled soft", bar.cancelled)):
        if height:
            parts.append(element("rect", class_=name, x=x, y=below - height, width=width, height=height))
            below -= height
    if bar.failed:
        parts.append(element("rect", class_="failed", x=x, y=_UP + 0.6, width=width, height=bar.failed))
    return element("g", joined(parts), data_say=_say(bucket))


def _say(bucket: Bucket) -> str:
    ends = (("▲", bucket.completed, "completed"), ("▼", bucket.failed, "failed"), ("●", bucket.cancelled, "cancelled"))
    told = [f"{glyph} {count:,} {word}" for glyph, count, word in ends if count]
    return "  ".join([f"{bucket.start:%b %d %H:%M} UTC", *(told or ["nothing ended"])])
