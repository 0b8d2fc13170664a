"""Cron rules where the clocks change, in every zone of the IANA database, against the rule in docs/schedules.md.

The oracle knows nothing of cron's syntax or of the code under test: it walks over the minutes of a few days, looks at
what the zone's clocks show, and asks a predicate whether that time fits.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from itertools import takewhile
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from msgspec import Raw
from tests.marks import usually

from tasker.model.schedules import Schedule
from tasker.rules.ticks import next_tick, ticks

MINUTE = timedelta(minutes=1)
DAY = 24 * 60
REACH = 14 * 60
"""Minutes checked before and after a change, besides those that it skips or repeats."""
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  on the wall clock
START = datetime(2026, 1, 1, tzinfo=UTC)
YEARS = (2017, 2027)
PARTS = 40
ODDITIES = [
    ("Pacific/Apia", 2011), ("Pacific/Fakaofo", 2011), ("Pacific/Kwajalein", 1993), ("Pacific/Kiritimati", 1994),
    ("Australia/Lord_Howe", 2026), ("Africa/Cairo", 2014), ("Africa/Cairo", 2026), ("America/Havana", 2026),
    ("Asia/Beirut", 2026), ("America/Santiago", 2026), ("Atlantic/Azores", 2026), ("America/Sao_Paulo", 2018),
    ("Asia/Pyongyang", 2015), ("America/Caracas", 2016), ("Asia/Kathmandu", 1985), ("Antarctica/Casey", 2010),
    ("Antarctica/Troll", 2026), ("America/St_Johns", 2006), ("Africa/Casablanca", 2026), ("Pacific/Chatham", 2026),
]  # fmt: skip
"""Skipped days; changes by half an hour, two hours, minutes; at midnight, and a minute after it."""

Fits = Callable[[datetime], bool]


class Rule(NamedTuple):
    cron: str
    has_star: bool  # minute or hour begins with one
    fits: Fits


def _last_day(wall: datetime) -> bool:
    return (wall + timedelta(days=1)).day == 1


RULES = [
    Rule("30 2 * * *", False, lambda t: (t.hour, t.minute) == (2, 30)),
    Rule("0 0 * * *", False, lambda t: (t.hour, t.minute) == (0, 0)),
    Rule("0,30 1-3 * * *", False, lambda t: t.hour in (1, 2, 3) and t.minute in (0, 30)),
    Rule("15 0,1,23 * * *", False, lambda t: t.hour in (0, 1, 23) and t.minute == 15),
    Rule("1-59/7 0-23/2 * * SUN,MON", False, lambda t: t.minute % 7 == 1 and not t.hour % 2 and t.weekday() in (0, 6)),
    Rule("5 12 L * FRI", False, lambda t: (t.hour, t.minute) == (12, 5) and (_last_day(t) or t.isoweekday() == 5)),
    Rule("0 9 30 12 *", False, lambda t: (t.month, t.day, t.hour, t.minute) == (12, 30, 9, 0)),
    Rule("*/15 * * * *", True, lambda t: t.minute % 15 == 0),
    Rule("0 * * * *", True, lambda t: t.minute == 0),
    Rule("*/20 0-2 * * *", True, lambda t: t.minute % 20 == 0 and t.hour < 3),
    Rule("10 */3 * * 7", True, lambda t: t.minute == 10 and t.hour % 3 == 0 and t.isoweekday() == 7),
    Rule("*/30 0 1-7 * *", True, lambda t: t.minute % 30 == 0 and t.hour == 0 and t.day < 8),
]  # fmt: skip


class Window(NamedTuple):
    """A span of time in minutes since 1970, and the offsets before and after the change in it."""

    start: int
    change: int
    end: int
    offsets: tuple[int, int]


def offset_at(zone: ZoneInfo, minute: int) -> int:
    offset = datetime.fromtimestamp(minute * 60, zone).utcoffset()
    assert offset is not None
    return offset // MINUTE


def around(zone: ZoneInfo, minute: int) -> Window:
    before, after = offset_at(zone, minute - 1), offset_at(zone, minute)
    reach = REACH + abs(after - before)
    return Window(minute - reach, minute, minute + reach, (before, after))


def is_ordinary(zone: ZoneInfo, window: Window) -> bool:
    return len({*window.offsets, offset_at(zone, window.start), offset_at(zone, window.end)}) == 1


def changes(zone: ZoneInfo, first: int, end: int) -> Iterator[Window]:
    """Find the minutes at which the offset changes, checking every third day: no zone has had two within a week."""
    for low in range(first, end, 3 * DAY):
        high, before = low + 3 * DAY, offset_at(zone, low)
        if offset_at(zone, high) == before:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset_at(zone, middle) == before else (low, middle)
        yield around(zone, high)


@cache
def times_of(day: int) -> list[tuple[int, datetime]]:
    return [(minute, EPOCH + timedelta(minutes=minute)) for minute in range(day * DAY, (day + 1) * DAY)]


@cache
def fitting(rule: Rule, day: int) -> frozenset[int]:
    """Return the minutes of a local day that match a rule."""
    return frozenset(minute for minute, time in times_of(day) if rule.fits(time))


@cache
def shown(window: Window) -> list[tuple[int, int, int]]:
    """Return each minute with the local time then, and the latest local time shown before."""
    rows, latest = [], window.start + window.offsets[0]
    for minute in range(window.start + 1, window.end + 1):
        wall = minute + window.offsets[minute >= window.change]
        rows.append((minute, wall, latest))
        latest = max(latest, wall)
    return rows


@cache
def expected(rule: Rule, window: Window) -> list[int]:
    """Return the ticks within a window: whenever the clocks match, or once for each matching local time."""
    low, high = window.start + min(window.offsets), window.end + max(window.offsets)
    fits = frozenset().union(*(fitting(rule, day) for day in range(low // DAY, high // DAY + 1)))
    if rule.has_star:
        return [minute for minute, wall, _ in shown(window) if wall in fits]
    return [
        minute for minute, wall, latest in shown(window)
        if wall > latest and (wall in fits or not fits.isdisjoint(range(latest + 1, wall)))
    ]  # fmt: skip


def as_moment(minute: float) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(minutes=minute)


def check(zone_name: str, rule: Rule, window: Window, starts: Iterable[float]) -> None:
    """Compare the ticks of a window, and the next tick from each of the `starts`, relative to the change."""
    due = expected(rule, window)
    schedule = Schedule(
        schedule_id=UUID(int=7), name="s", type="sum", task=Raw(b"{}"), cron=rule.cron, time_zone=zone_name,
        anchor=START, created_at=START, updated_at=START,
    )  # fmt: skip
    end = as_moment(window.end)
    found = list(takewhile(lambda tick: tick <= end, ticks(schedule, as_moment(window.start))))
    assert found == [as_moment(minute) for minute in due], (zone_name, rule.cron, as_moment(window.change))
    for start in starts:
        minute = window.change + start
        place = bisect_right(due, minute)
        if place < len(due) and minute >= window.start:
            case = (zone_name, rule.cron, as_moment(minute))
            assert next_tick(schedule, as_moment(minute)) == as_moment(due[place]), case


FIRST, END = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) // 60 for year in YEARS)


@cache
def distinct_zones() -> list[tuple[str, tuple[Window, ...]]]:
    """Return all zones with their changes; only one of those with the same clocks in all of the years."""
    names = sorted(set((files("tzdata") / "zones").read_text().split()) - {"Factory"})
    assert len(names) > 500
    found: dict[tuple[object, ...], tuple[str, tuple[Window, ...]]] = {}
    for name in names:
        zone = ZoneInfo(name)
        windows = tuple(changes(zone, FIRST, END))
        found.setdefault((offset_at(zone, FIRST), *windows), (name, windows))
    return list(found.values())


@pytest.mark.parametrize("part", usually(range(PARTS), PARTS - 1))
def test_ten_years_of_all_zones(part: int) -> None:
    """Each change of the clocks in ten years, and ordinary days, with twelve rules, from many times."""
    chance = random.Random(part)
    for name, windows in distinct_zones()[part::PARTS]:
        zone = ZoneInfo(name)
        days = (around(zone, chance.randrange(FIRST, END)) for _ in range(4))
        for window in (*windows, *(day for day in days if is_ordinary(zone, day))):
            for rule in RULES:
                check(name, rule, window, (chance.uniform(-180, 180), -1, -0.001, 0))


@pytest.mark.parametrize(("name", "year"), ODDITIES)
def test_odd_changes_of_the_clocks(name: str, year: int) -> None:
    """Skipped days, changes at midnight and by minutes: the next tick from each quarter of an hour around."""
    zone, start = ZoneInfo(name), int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) // 60
    windows = list(changes(zone, start, start + 366 * DAY))
    assert windows, "the zone data has no change in this year"
    for window in windows:
        for rule in RULES:
            check(name, rule, window, [quarter * 15 + shift for quarter in range(-100, 100) for shift in (0, 7.5)])
