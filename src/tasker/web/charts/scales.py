"""Round numbers for scales: of counts, and of times."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta

_FACTORS = (1, 2, 3, 4, 5, 8, 10)
_STEPS = tuple(
    timedelta(seconds=seconds)
    for seconds in (
        *(size * unit for unit in (0.001, 0.01, 0.1) for size in (1, 2, 5)),
        *(1, 2, 5, 10, 15, 30),
        *(60 * minutes for minutes in (1, 2, 5, 10, 15, 30)),
        *(3_600 * hours for hours in (1, 2, 3, 6, 12)),
        *(86_400 * days for days in (1, 2, 7, 14, 30, 60, 180, 365)),
    )
)


def round_up(value: float) -> int:
    """Return the smallest round whole number that is at least `value`, and at least 1."""
    if value <= 1:
        return 1
    size = int(10 ** math.floor(math.log10(value)))
    return next(factor * size for factor in _FACTORS if factor * size >= value)


def step_for(length: timedelta, most: int = 5) -> timedelta:
    """Return the smallest round step of which at most `most` fit into a length."""
    return next((step for step in _STEPS if step * most >= length), length / most)


def multiples(step: timedelta, low: timedelta, high: timedelta) -> Iterator[timedelta]:
    """Yield the multiples of a step from `low` to `high`, both included."""
    count = math.ceil(low / step)
    while count * step <= high:
        yield count * step
        count += 1


def show_offset(time: timedelta) -> str:
    """Return a time after the beginning as a short label, like `+30 s` or `+1:30 h`."""
    seconds = round(time.total_seconds(), 3)
    if seconds < 1:
        return f"+{seconds * 1000:g} ms"
    if seconds < 60:
        return f"+{seconds:g} s"
    if seconds % 1:
        return f"+{seconds // 60:.0f} min {seconds % 60:g} s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return _with_part("min", minutes, left)
    if left:
        return f"+{minutes // 60}:{minutes % 60:02}:{left:02} h"
    return _with_part("h", *divmod(minutes, 60)) if minutes < 1_440 else f"+{minutes / 1_440:g} d"


def _with_part(unit: str, whole: int, part: int) -> str:
    return f"+{whole}:{part:02} {unit}" if part else f"+{whole} {unit}"
