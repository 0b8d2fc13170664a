"""The attempts of a task as a waterfall: how long each waited, ran, and backed off or was parked before the next.

Below them are the task's steps. A phase too short to be seen is drawn 3 pixels wide. A back-off that is far longer than
all the rest is cut, and so is each wait of a parked task that is far longer than all that ran.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from markupsafe import Markup

from tasker.web.charts import spans
from tasker.web.charts.scales import multiples, show_offset, step_for
from tasker.web.charts.spans import Span
from tasker.web.charts.svg import element, joined, percent
from tasker.web.times import duration

SPAN = 92.0
"""Percent of the width for the whole time: room is left for the numbers, also where the chart is narrow."""
_SHORT = 0.5
"""A phase of less than this percentage of the span is drawn `_SHORT_WIDTH` pixels wide."""
_SHORT_WIDTH = 3
_FAR_LONGER = 5
"""A back-off is cut if it is longer than this many times all the rest."""
_CUT_TO = 0.25
"""How long a cut back-off is drawn, as a part of all the rest."""
_CLOSEST = 9.0
"""Least distance in percent of two times on the axis."""
_ROW = 30
_APART = 4
"""Pixels between attempts and steps."""
_NOTHING = timedelta(0)


class Try(NamedTuple):
    """An attempt. due_at: since when it could begin. retry_at: until when it backs off; both are None if unknown.

    started_at: None for an attempt that still waits. ended_at: None while it runs. colour: the class of its ending.
    parked: what the task did after it in place of a back-off, like "slept"; "" if it was not parked.
    """

    number: int
    due_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    retry_at: datetime | None
    colour: str
    parked: str = ""

    def waited(self, now: datetime) -> timedelta:
        """Return how long it waited since it was due."""
        if self.due_at is None:
            return _NOTHING
        return max((self.started_at or now) - self.due_at, _NOTHING)

    def ran(self, now: datetime) -> timedelta:
        """Return how long it ran, or runs."""
        return _NOTHING if self.started_at is None else max((self.ended_at or now) - self.started_at, _NOTHING)

    @property
    def backed_off(self) -> timedelta:
        """How long it backed off, or was parked."""
        if self.ended_at is None or self.retry_at is None:
            return _NOTHING
        return max(self.retry_at - self.ended_at, _NOTHING)


class Cut(NamedTuple):
    """A back-off that is drawn as if it were shorter."""

    start: datetime
    end: datetime
    drawn: timedelta

    @property
    def left_out(self) -> timedelta:
        """How much of it is not drawn."""
        return self.end - self.start - self.drawn


class Scale(NamedTuple):
    """Maps moments to percentages of the width."""

    start: datetime
    drawn: timedelta
    cuts: tuple[Cut, ...]

    def place(self, moment: datetime) -> float:
        """Return the place of a moment, in percent."""
        past = moment - self.start
        for cut in self.cuts:
            if moment >= cut.end:
                past -= cut.left_out
            elif moment > cut.start:
                past -= (moment - cut.start) - (moment - cut.start) / (cut.end - cut.start) * cut.drawn
        return SPAN * (past / self.drawn)


class Bar(NamedTuple):
    """A phase that waited or ran: its place and its width in percent; `is_short` ones are 3 pixels wide."""

    x: float
    width: float

    @property
    def is_short(self) -> bool:
        return self.width < SPAN * _SHORT / 100


class Row(NamedTuple):
    """What is drawn for an attempt. off: from where to where it backed off or was parked; is_cut: by less than that."""

    number: int
    colour: str
    wait: Bar | None
    run: Bar | None
    off: tuple[float, float] | None
    is_cut: bool
    text: str
    text_at: float
    anchor: str
    shift: int


class Layout(NamedTuple):
    """The rows, and the labels on the axis with their places."""

    rows: list[Row]
    labels: list[tuple[float, str]]


def lay_out(tries: Sequence[Try], now: datetime) -> Layout:
    """Return the places of everything. tries: in order, at least one."""
    scale = make_scale(tries, now)
    return Layout([_row(one, scale, now) for one in tries], _labels(scale))


def make_scale(tries: Sequence[Try], now: datetime) -> Scale:
    """Return the scale, with its cuts. The longest back-offs are cut first."""
    known = [moment for one in tries for moment in one[1:5] if isinstance(moment, datetime)]
    open_end = [now] if any(one.ended_at is None for one in tries) else []
    start, end = min(known + open_end), max(known + open_end)
    drawn = max(end - start, timedelta(milliseconds=1))
    cuts = []
    ran = drawn - sum((one.backed_off for one in tries if one.parked), _NOTHING)
    for one in sorted(tries, key=lambda one: one.backed_off, reverse=True):
        rest = ran if one.parked else drawn - one.backed_off
        if one.backed_off > _FAR_LONGER * rest and one.ended_at is not None and one.retry_at is not None:
            cut = Cut(one.ended_at, one.retry_at, max(rest, timedelta(milliseconds=1)) * _CUT_TO)
            cuts.append(cut)
            drawn -= cut.left_out
    return Scale(start, drawn, tuple(sorted(cuts)))


def _row(one: Try, scale: Scale, now: datetime) -> Row:
    began = one.due_at or one.started_at or now
    left = scale.place(began)
    start = left if one.started_at is None else scale.place(one.started_at)
    run = None if one.started_at is None else Bar(start, max(scale.place(one.ended_at or now) - start, 0.0))
    end = scale.place(now) if run is None else run.x + run.width
    wait = Bar(left, max((end if run is None else start) - left, 0.0)) if one.waited(now) else None
    off = (end, scale.place(one.retry_at)) if one.backed_off and one.retry_at is not None else None
    right = off[1] if off is not None else end
    at, anchor, shift = _beside(left, start, right)
    is_cut = any(cut.start == one.ended_at for cut in scale.cuts)
    return Row(one.number, one.colour, wait, run, off, is_cut, _say_short(one, now), at, anchor, shift)


def _beside(left: float, start: float, right: float) -> tuple[float, str, int]:
    """Return where a row's text has room: its place, its anchor and the pixels beside it."""
    if right < 60:
        return right, "start", 8
    return (left, "end", -8) if left > 30 else (start, "start", 8)


def _labels(scale: Scale) -> list[tuple[float, str]]:
    """Return labels for round times after the start; none inside of a cut, none too close to another."""
    found = [(0.0, f"{scale.start:%H:%M:%S}")]
    step, begun = step_for(scale.drawn), _NOTHING
    pieces = [*((cut.start - scale.start, cut.end - scale.start) for cut in scale.cuts)]
    left_out = sum((cut.left_out for cut in scale.cuts), _NOTHING)
    for stop, begins_again in [*pieces, (scale.drawn + left_out, None)]:
        for after in multiples(step, max(begun, step), stop):
            place = scale.place(scale.start + after)
            if place - found[-1][0] >= _CLOSEST:
                found.append((place, show_offset(after)))
        begun = begins_again or begun
    return found


def _say_short(one: Try, now: datetime) -> str:
    if one.started_at is None:
        return f"waits for {duration(one.waited(now))}"
    return f"{'runs for' if one.ended_at is None else 'ran'} {duration(one.ran(now))}"


def say(tries: Sequence[Try], now: datetime, lanes: Sequence[spans.Lane] = ()) -> str:
    """Return what the chart shows, in words."""
    told = "; ".join(f"attempt {one.number} {_say_long(one, now)}" for one in tries).capitalize()
    return f"{told}. Steps: {'; '.join(spans.say_lane(one, now) for one in lanes)}" if lanes else told


def _say_long(one: Try, now: datetime) -> str:
    waited = one.waited(now)
    parts = [] if not waited or one.started_at is None else [f"waited {duration(waited)}"]
    told = " and ".join([*parts, _say_short(one, now)])
    if not one.backed_off:
        return told
    return f"{told}, then {_say_off(one)}" if one.parked else f"{told}, {duration(one.backed_off)} of back-off"


def _say_off(one: Try) -> str:
    return f"{one.parked or 'backed off'} {'for ' if one.parked else ''}{duration(one.backed_off)}"


def waterfall(tries: Sequence[Try], now: datetime, steps: Sequence[Span] = ()) -> Markup:
    """Return the chart, or nothing without an attempt. Times on its axis are those of the moments' zone.

    steps: in order; those that ended before the first attempt shown are left out.
    """
    if not tries:
        return Markup("")
    layout, scale = lay_out(tries, now), make_scale(tries, now)
    lanes = spans.lanes_of([one for one in steps if one.ended_at is None or one.ended_at >= scale.start], now)
    top = len(layout.rows) * _ROW
    bottom = top + len(lanes) * spans.ROW + (_APART if lanes else 0)
    grid = [
        element("line", x1=percent(x), x2=percent(x), y1=0, y2=bottom + 4)
        + element("text", label, x=percent(x), y=bottom + 18, text_anchor="middle" if x else "start")
        for x, label in layout.labels
    ]
    rows = [
        _draw(row, one, now, place * _ROW + 6) for place, (row, one) in enumerate(zip(layout.rows, tries, strict=True))
    ]
    numbers = [element("text", str(row.number), x=0, y=place * _ROW + 19) for place, row in enumerate(layout.rows)]
    below = spans.draw(spans.lay_out(lanes, scale.place, now), top + _APART)
    inner = element("svg", joined([*grid, *rows, below]), x="1.5rem", width="100%", overflow="visible")
    return element(
        "svg",
        joined([_HATCH, inner, *numbers]),
        class_="wf",
        height=bottom + 22,
        role="img",
        aria_label=say(tries, now, lanes),
    )


_HATCH = element(
    "defs",
    element(
        "pattern",
        element("path", d="M0 0v5", stroke="currentColor", stroke_opacity=".45", stroke_width=1.5),
        id="hatch",
        width=5,
        height=5,
        patternUnits="userSpaceOnUse",
        patternTransform="rotate(45)",
    ),
)


def _draw(row: Row, one: Try, now: datetime, y: int) -> Markup:
    parts = []
    if row.wait is not None:
        parts.append(_wait(row.wait, f"waited {duration(one.waited(now))}", y))
    if row.run is not None:
        parts += _run(row.run, row.colour, _say_short(one, now), y)
    if row.off is not None:
        parts += _off(row, _say_off(one), y, is_parked=bool(one.parked))
    text = element("text", row.text, class_="t", x=percent(row.text_at), y=y + 13, dx=row.shift, text_anchor=row.anchor)
    return joined([*parts, text])


def _wait(bar: Bar, title: str, y: int) -> Markup:
    width, shift = (_SHORT_WIDTH, f"translate(-{_SHORT_WIDTH})") if bar.is_short else (percent(bar.width), None)
    return element(
        "rect",
        element("title", title),
        class_="wait",
        x=percent(bar.x),
        width=width,
        y=y + 4,
        height=10,
        rx=2,
        transform=shift,
    )


def _run(bar: Bar, colour: str, title: str, y: int) -> list[Markup]:
    """Return a soft bar with a solid cap at its end; a short one is the cap alone."""
    told = element("title", title)
    if bar.is_short:
        return [element("rect", told, class_=colour, x=percent(bar.x), width=_SHORT_WIDTH, y=y, height=18)]
    soft = element(
        "rect", told, class_=f"ran {colour}", x=percent(bar.x), width=percent(bar.width), y=y, height=18, rx=3
    )
    cap = element("rect", class_=colour, x=-4, width=4, y=y, height=18, rx=2)
    return [soft, element("svg", cap, x=percent(bar.x + bar.width), overflow="visible")]


def _off(row: Row, title: str, y: int, *, is_parked: bool) -> list[Markup]:
    """Return the dots of a back-off, or the hatched bar of a wait without a slot."""
    if row.off is None:
        return []
    start, end = row.off
    if is_parked:
        told = _wait(Bar(start, end - start), title, y)
    else:
        told = element(
            "line", element("title", title), class_="off", x1=percent(start), x2=percent(end), y1=y + 9, y2=y + 9
        )
    if not row.is_cut:
        return [told]
    return [told, element("text", "//", class_="t", x=percent((start + end) / 2), y=y + 13, text_anchor="middle")]
