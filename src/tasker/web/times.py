"""Times, durations and numbers as people read them."""

from __future__ import annotations

from datetime import datetime, timedelta

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def ago(time: datetime, now: datetime) -> str:
    """Return how long ago a time was, or in how long it will be: "14 s ago", "in 3 min", "now"."""
    seconds = (now - time).total_seconds()
    text = span(abs(seconds))
    if abs(seconds) < 1:
        return "now"
    return f"{text} ago" if seconds > 0 else f"in {text}"


def span(seconds: float) -> str:
    """Return a time in its largest unit: "14 s", "3 min", "5 h", "2 d"."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def duration(time: timedelta | float | None) -> str:
    """Return a duration with two or three digits: "<1 ms", "812 ms", "38.2 s", "1 min 49 s", "5 min"; None gives ""."""
    if time is None:
        return ""
    seconds = time.total_seconds() if isinstance(time, timedelta) else time
    if seconds < 0.001:
        return "<1 ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return _two(whole, "min", 60, "s")
    if whole < 86_400:
        return _two(whole // 60, "h", 60, "min")
    return _two(whole // 3600, "d", 24, "h")


def _two(count: int, unit: str, size: int, smaller: str) -> str:
    """Return a count of a smaller unit in two units, of which the larger has `size` of the smaller; without a zero."""
    rest = count % size
    return f"{count // size} {unit} {rest:02} {smaller}" if rest else f"{count // size} {unit}"


def iso(time: datetime) -> str:
    """Return a time as RFC 3339 in UTC, with milliseconds."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock(time: datetime) -> str:
    """Return the time of day, in UTC."""
    return f"{time:%H:%M:%S}"


def minute(time: datetime) -> str:
    """Return a time to the minute, or to the second where it is not at a full minute, in UTC."""
    return f"{time:%Y-%m-%d %H:%M:%S}".removesuffix(":00") + " UTC"


def full(time: datetime) -> str:
    """Return a time to the millisecond, in UTC, for people."""
    return f"{time:%Y-%m-%d %H:%M:%S}.{time.microsecond // 1000:03d} UTC"


def number(value: float) -> str:
    """Return a number with commas between thousands."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def capped(count: int, most: int = 10_000) -> str:
    """Return a count that stopped after `most`: "10k+" beyond it."""
    return number(count) if count <= most else f"{most // 1000}k+"


def percent(part: float, whole: float) -> str:
    """Return a share: "0 %", "0.48 %", "4.1 %", "91 %"."""
    if not part or not whole:
        return "0 %"
    share = 100 * part / whole
    if share >= 10:
        return f"{share:.0f} %"
    return f"{share:.1f} %" if share >= 1 else f"{max(share, 0.01):.2f} %"
