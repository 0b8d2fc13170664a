"""The steps of a task as bars below its attempts, on the same scale: what it did, slept, and waited for.

There may be thousands: steps of one name share a row, and the shortest rows are joined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Literal, NamedTuple

from markupsafe import Markup

from tasker.web.charts.svg import element, joined, percent
from tasker.web.times import duration, number

MOST_LANES = 16
"""Rows of steps in a chart."""
MOST_BARS = 40
"""Bars in a row; more of them are one."""
ROW = 20
_SHORT = 0.4
"""A bar of less than this percentage of the width is drawn 3 pixels wide."""
_NAME = 40
_NOTHING = timedelta(0)

SpanKind = Literal["step", "sleep", "input", "children"]


class Span(NamedTuple):
    """A step: from when to when; ended_at is None while it goes on. colour: the class of its status.

    note: what more is told of it.
    """

    name: str
    kind: SpanKind
    colour: str
    started_at: datetime
    ended_at: datetime | None
    note: str = ""

    def took(self, now: datetime) -> timedelta:
        """Return how long it took, or has taken so far."""
        return max((self.ended_at or now) - self.started_at, _NOTHING)


class Lane(NamedTuple):
    """A row: one step, or several that are shown together. is_wait: the task did not run for it.

    is_joined: they have several names.
    """

    name: str
    colour: str
    is_wait: bool
    spans: tuple[Span, ...]
    is_joined: bool = False

    def began(self) -> datetime:
        return min(one.started_at for one in self.spans)

    def ended(self, now: datetime) -> datetime:
        return max(one.ended_at or now for one in self.spans)

    @property
    def goes_on(self) -> bool:
        return any(one.ended_at is None for one in self.spans)


def lanes_of(spans: Sequence[Span], now: datetime, most: int = MOST_LANES) -> list[Lane]:
    """Return the rows for steps in their order, at most `most`."""
    lanes = [_lane(list(several)) for _, several in groupby(spans, lambda one: (one.name, one.kind))]
    if len(lanes) > most:
        by_name: dict[tuple[str, str], list[Span]] = {}
        for one in spans:
            by_name.setdefault((one.name, one.kind), []).append(one)
        lanes = [_lane(several) for several in by_name.values()]
    if len(lanes) <= most:
        return lanes
    longest = sorted(lanes, key=lambda one: (not one.goes_on, one.colour != "failed", one.began() - one.ended(now)))
    return _joined(lanes, {id(one) for one in longest[: (most - 1) // 2]})


def _lane(spans: list[Span]) -> Lane:
    colours = {one.colour for one in spans}
    colour = next((one for one in ("failed", "warn", "running") if one in colours), spans[-1].colour)
    return Lane(spans[0].name, colour, spans[0].kind != "step", tuple(spans))


def _joined(lanes: Sequence[Lane], kept: set[int]) -> list[Lane]:
    """Return the rows that are kept, and what is between two of them as one."""
    found: list[Lane] = []
    for is_kept, several in groupby(lanes, lambda one: id(one) in kept):
        group = list(several)
        if is_kept or len(group) == 1:
            found += group
        else:
            spans = [span for lane in group for span in lane.spans]
            name = f"{number(len(spans))} other steps"
            found.append(_lane(spans)._replace(name=name, is_wait=False, is_joined=True))
    return found


class Bar(NamedTuple):
    """A bar: its place and its width in percent; `is_short` ones are 3 pixels wide."""

    x: float
    width: float

    @property
    def is_short(self) -> bool:
        return self.width < _SHORT


class Row(NamedTuple):
    """What is drawn for a lane. text: its name and how long it took, where there is room for it."""

    lane: Lane
    bars: list[Bar]
    text: str
    text_at: float
    anchor: str
    shift: int


def lay_out(lanes: Sequence[Lane], place: Callable[[datetime], float], now: datetime) -> list[Row]:
    """Return the places of everything. place: of a moment on the axis, in percent."""
    return [_row(lane, place, now) for lane in lanes]


def _row(lane: Lane, place: Callable[[datetime], float], now: datetime) -> Row:
    ends = [(one.started_at, one.ended_at or now) for one in lane.spans]
    if len(ends) > MOST_BARS:
        ends = [(lane.began(), lane.ended(now))]
    bars = [Bar(x, max(place(end) - x, 0.0)) for start, end in ends for x in [max(place(start), 0.0)]]
    left, right = min(bar.x for bar in bars), max(bar.x + bar.width for bar in bars)
    at, anchor, shift = (right, "start", 8) if right < 60 else (left, "end", -8) if left > 30 else (left, "start", 8)
    return Row(lane, bars, say_lane(lane, now), at, anchor, shift)


def say_lane(lane: Lane, now: datetime) -> str:
    """Return a row in words: "charge 1.2 s", "cool off for 12 min", "20 of page 38.2 s"."""
    name = lane.name if len(lane.name) <= _NAME else f"{lane.name[:_NAME]}…"
    count = len(lane.spans)
    several = f"{number(count)} of " if count > 1 and not lane.is_joined else ""
    note = f", {lane.spans[0].note}" if count == 1 and lane.spans[0].note else ""
    time = duration(max(lane.ended(now) - lane.began(), _NOTHING))
    return f"{several}{name}{' for' if lane.goes_on else ''} {time}{note}"


def draw(rows: Sequence[Row], top: int) -> Markup:
    """Return the rows, the first at `top` pixels."""
    return joined([_draw(row, top + place * ROW) for place, row in enumerate(rows)])


def _draw(row: Row, y: int) -> Markup:
    name = "wait" if row.lane.is_wait else "ran"
    bars = [
        element(
            "rect",
            element("title", row.text),
            class_=f"{name} {row.lane.colour}",
            x=percent(bar.x),
            width=3 if bar.is_short else percent(bar.width),
            y=y + 3,
            height=10,
            rx=2,
        )
        for bar in row.bars
    ]
    text = element("text", row.text, class_="t", x=percent(row.text_at), y=y + 12, dx=row.shift, text_anchor=row.anchor)
    return joined([*bars, text])
