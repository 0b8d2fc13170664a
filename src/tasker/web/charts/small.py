"""Small charts in tables and figures: sparklines, meters, slots of a worker, the last ticks of a schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from markupsafe import Markup

from tasker.web.charts.svg import element, joined, number, percent

_HEIGHT = 20
_STEP = 4
_LEAST = 0.6
"""Height of a bar of 0, so that it is seen."""
_SLOTS_IN_A_ROW = 12
_SLOT = 9
MOST_SLOTS = 120
"""Slots that are drawn one by one; a worker with more gets a meter."""


def heights(values: Sequence[float]) -> list[float]:
    """Return the heights of bars, the largest 18 of 20."""
    top = max([1, *values])
    return [max(value / top * 18, _LEAST) for value in values]


def sparkline(values: Sequence[float], bad: Sequence[float] = (), name: str = "faint") -> Markup:
    """Return a bar for each value, and over it in the colour of failures how much of it is bad."""
    top = max([1, *values])
    of_bad = [max(min(value / top * 18, 18), _LEAST) if value else 0.0 for value in bad[: len(values)]]
    parts = [_columns(name, heights(values))]
    if any(of_bad):
        parts.append(_columns("failed", of_bad))
    return _spark(parts, len(values) * _STEP, ", ".join(number(value) for value in values))


def _columns(name: str, tall: Sequence[float]) -> Markup:
    """Return bars of these heights, none for 0, as one path: a page has many, and elements would take long to make."""
    drawn = [(place * _STEP, number(height)) for place, height in enumerate(tall) if height]
    return element("path", class_=name, d="".join(f"M{x} {_HEIGHT}v-{height}h3v{height}z" for x, height in drawn))


def line(values: Sequence[float]) -> Markup:
    """Return a line through values, as decoration of a figure that is told beside it."""
    top = max([1, *values])
    points = " ".join(f"{place * _STEP},{number(_HEIGHT - 1 - value / top * 18)}" for place, value in enumerate(values))
    inside = element("polyline", class_="lo", points=points)
    return _spark([inside], max(len(values) - 1, 1) * _STEP, None)


def _spark(parts: list[Markup], width: float, label: str | None) -> Markup:
    said: dict[str, str] = {"aria_hidden": "true"} if label is None else {"role": "img", "aria_label": label}
    return element(
        "svg",
        joined(parts),
        class_="spark",
        viewBox=f"0 0 {max(width, 1)} {_HEIGHT}",
        preserveAspectRatio="none",
        **said,
    )


def meter(part: float, whole: float, name: str = "running", *, wide: bool = False, label: str | None = None) -> Markup:
    """Return how full something is. label: in words; by default `part of whole`."""
    share = min(max(part / whole, 0.0), 1.0) if whole else 0.0
    return element(
        "svg",
        element("rect", class_=name, height="100%", width=percent(100 * share)),
        class_="meter wide" if wide else "meter",
        role="img",
        aria_label=label or f"{number(part)} of {number(whole)}",
    )


def shares(parts: Sequence[tuple[str, int]], label: str) -> Markup:
    """Return what parts a whole has, as a bar. parts: the class and the size of each."""
    whole = sum(size for _, size in parts)
    bars, x = [], 0.0
    for name, size in parts:
        width = 100 * size / whole if whole else 0.0
        if width:
            bars.append(element("rect", class_=name, height="100%", x=percent(x), width=percent(width)))
        x += width
    return element("svg", joined(bars), class_="meter wide", role="img", aria_label=label)


def slots(running: int, count: int) -> Markup:
    """Return a square for each slot of a worker, those in use filled."""
    if count > MOST_SLOTS:
        return meter(running, count)
    rows = max(-(-count // _SLOTS_IN_A_ROW), 1)
    squares = [
        element(
            "rect",
            class_="running" if place < running else "faint soft",
            x=place % _SLOTS_IN_A_ROW * _SLOT,
            y=place // _SLOTS_IN_A_ROW * _SLOT,
            width=7,
            height=7,
            rx=1.5,
        )
        for place in range(count)
    ]
    label = f"{running} of {count} slots"
    size = {"width": _SLOTS_IN_A_ROW * _SLOT, "height": rows * _SLOT}
    return element("svg", joined(squares), role="img", aria_label=label, **size)


class Tick(NamedTuple):
    """What became of a schedule's tick. said: in words."""

    outcome: Literal["completed", "failed", "cancelled", "open", "skipped"]
    said: str


_TICKS = {
    "completed": ("completed soft", 14.0),
    "failed": ("failed", 18.0),
    "cancelled": ("cancelled", 14.0),
    "open": ("running", 8.0),
    "skipped": ("cancelled soft", 3.0),
}
"""The class and the height for each outcome."""
MOST_TICKS = 20


def tick_history(ticks: Sequence[Tick], label: str) -> Markup:
    """Return the last ticks of a schedule, the latest at the right."""
    parts = []
    for place, tick in enumerate(ticks[-MOST_TICKS:]):
        name, height = _TICKS[tick.outcome]
        rect = element("rect", element("title", tick.said), class_=name, x=place * 5, y=_HEIGHT - height, width=3.5,
                       height=height)  # fmt: skip
        parts.append(rect)
    return element(
        "svg",
        joined(parts),
        class_="spark ticks",
        viewBox=f"0 0 {MOST_TICKS * 5} {_HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
    )
