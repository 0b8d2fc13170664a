"""Pure rules of schedules: when they tick, which ticks count, and what each does. No clock, no store."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from msgspec import structs

from tasker.model import Draft, Extra
from tasker.model.schedules import (
    KEEP_FIRINGS,
    KEEP_RECENT,
    MISSED_AFTER,
    MOST_MISSED,
    Firing,
    PastTick,
    Schedule,
    Skip,
)

MAX_CRON = 200
"""Longest cron rule, in characters."""
MAX_ZONE = 64
"""Longest name of a time zone, in characters."""
_CRON = re.compile(r"[0-9A-Za-z*/,#\- \t]+")
_ZONE = re.compile(r"[A-Za-z0-9_+\-/]{1,64}")
_LOOK_BACK = tuple(timedelta(days=days) for days in (1 / 24, 1, 30, 366, 3660))
"""Steps by which the search for missed ticks goes back, until there are enough."""
_SECOND = timedelta(seconds=1)
WRONG_FROM = timedelta(days=1)
"""If the clock is set back by less, no tick is repeated; by this or more, the earlier time counts as wrong."""
_STEP = re.compile(r"([^,/]*)/([0-9]+)")
_STEPS = (("minute", 60), ("hour", 24), ("day of month", 31), ("month", 12), ("day of week", 7))
"""The fields of a cron rule, and the number of values that each has."""


def check_cron(rule: str) -> None:
    """Raise ValueError, with what was expected, for an invalid rule or one that no time matches."""
    if not 0 < len(rule) <= MAX_CRON or not _CRON.fullmatch(rule):
        raise ValueError(f"expected a cron rule of at most {MAX_CRON} characters, like `*/5 9-17 * * MON-FRI`")
    fields = len(rule.split())
    if fields != 5:
        raise ValueError(f"expected 5 fields (minute, hour, day of month, month, day of week), got {fields}")
    _check_steps(rule)
    try:
        next(CronSim(rule, datetime(2024, 1, 1)))  # noqa: DTZ001  any day of a leap year
    except CronSimError as error:
        field = str(error).removeprefix("Bad ")
        raise ValueError(f"expected a {field} that a cron rule can have, and that some date has") from None
    except (StopIteration, RuntimeError, ValueError, AssertionError):
        raise ValueError("expected a rule that matches some time within 50 years") from None


def _check_steps(rule: str) -> None:
    """Raise ValueError for a step without effect: larger than its field, or after a single day such as `L`."""
    for text, (name, most) in zip(rule.split(), _STEPS, strict=True):
        for start, step in _STEP.findall(text):
            if start.upper() in ("L", "LW"):
                raise ValueError(f"expected no step after `{start}`, which is one day")
            if int(step) > most:
                raise ValueError(f"expected a step of at most {most} for the {name}")


def check_zone(name: str) -> None:
    """Raise ValueError for a name that is not in the IANA database: other systems may read it differently."""
    if name in _zone_names():
        return
    by_lower = {zone.lower(): zone for zone in _zone_names()}
    close = get_close_matches(name.lower(), by_lower, n=1) if len(name) <= MAX_ZONE else []
    hint = f"; did you mean `{by_lower[close[0]]}`?" if close else ""
    raise ValueError(f"expected a time zone of the IANA database, like `Europe/Berlin`{hint}")


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    """Return the names of the package tzdata, which every installation has: without `localtime` and the like."""
    return frozenset((files("tzdata") / "zones").read_text().split()) - {"Factory"}


@lru_cache(maxsize=1000)
def find_zone(name: str) -> ZoneInfo:
    """Return a time zone of the IANA database. Raises ValueError if it has none of this name."""
    try:
        if _ZONE.fullmatch(name):
            return ZoneInfo(name)
    except (ValueError, OSError, LookupError):  # one of these for a folder of zones
        pass
    raise ValueError("expected a time zone of the IANA database, like `Europe/Berlin`")


def ticks(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """Yield the ticks of a schedule after a time, in UTC and in order, up to its end."""
    if schedule.starts_at is not None:
        after = max(after, schedule.starts_at - timedelta(microseconds=1))
    found = _cron_ticks(schedule, after) if schedule.cron is not None else _interval_ticks(schedule, after)
    for tick in found:
        if schedule.ends_at is not None and tick > schedule.ends_at:
            return
        yield tick


def _cron_ticks(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """Find the local times that match a rule, and convert each to the UTC times at which the zone's clocks show it.

    A rule with a fixed minute and hour has one tick for each local time: when the clocks first show it or a later one.
    Any other rule has a tick whenever the clocks show a matching time.
    """
    assert schedule.cron is not None
    zone, at_fixed_times = find_zone(schedule.time_zone), _has_fixed_times(schedule.cron)
    waiting: deque[datetime] = deque()  # the second time that the clocks show a local time, after they were set back
    with suppress(OverflowError):  # the end of the calendar
        for wall in CronSim(schedule.cron, _unseen_from(after, zone)):
            first, second = _moments(wall, zone)
            if at_fixed_times:
                first = second = first if first <= second else _first_showing(wall, zone, second, first)
            elif first > second:  # the clocks skip it
                continue
            while waiting and waiting[0] < first:
                yield waiting.popleft()
            if first > after:
                yield first
                after = first
            if second > after:
                waiting.append(second)
    yield from waiting


def _has_fixed_times(rule: str) -> bool:
    """Tell whether neither minute nor hour begins with a star."""
    minute, hour, *_ = rule.split()
    return not minute.startswith("*") and not hour.startswith("*")


def _unseen_from(after: datetime, zone: ZoneInfo) -> datetime:
    """Return the earliest local time that the clocks may still show after this UTC time, as they may be set back."""
    local = after.astimezone(zone)
    again = _offset(local.replace(fold=0)) - _offset(local.replace(fold=1)) if not local.fold else timedelta(0)
    return local.replace(tzinfo=None, fold=0) - again  # the clocks may show the present local time again


def _moments(wall: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the two UTC times at which the clocks show a local time: usually the same one twice.

    The second is later if the clocks show the time twice, and earlier if they skip it.
    """
    first, second = wall.replace(tzinfo=zone), wall.replace(tzinfo=zone, fold=1)
    return first.astimezone(UTC), second.astimezone(UTC)


def _offset(local: datetime) -> timedelta:
    offset = local.utcoffset()
    assert offset is not None
    return offset


def _first_showing(wall: datetime, zone: ZoneInfo, before: datetime, shown: datetime) -> datetime:
    """Return the first second at which the clocks show `wall` or later: it is after `before`, and at most `shown`."""
    while shown - before > _SECOND:
        middle = before + (shown - before) // _SECOND // 2 * _SECOND
        if middle.astimezone(zone).replace(tzinfo=None) < wall:
            before = middle
        else:
            shown = middle
    return shown


def _interval_ticks(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    interval = schedule.interval
    assert interval is not None
    try:
        first = schedule.anchor if schedule.starts_at is not None else schedule.anchor + interval
        tick = first if after < first else first + ((after - first) // interval + 1) * interval
        while True:
            yield tick
            tick += interval
    except OverflowError:  # the end of the calendar
        return


def next_tick(schedule: Schedule, after: datetime) -> datetime | None:
    """Return the first tick after a time; None if there is none."""
    return next(ticks(schedule, after), None)


def resumed_at(schedule: Schedule, now: datetime) -> datetime | None:
    """Return the next tick of a new, changed or resumed schedule, after all ticks that it may have fired."""
    if schedule.paused:
        return None
    seen = (now, schedule.last_fired_at, None if schedule.last_skip is None else schedule.last_skip.tick)
    return next_tick(schedule, max(moment for moment in seen if moment is not None))


def set_right(schedule: Schedule, now: datetime) -> Schedule:
    """Return the schedule with its ticks from `now` on if the clock was set back by WRONG_FROM or more; else as it is.

    Times so far in the future came from a wrong clock: ticks fired then do not count, and do not delay the next tick.
    """
    latest, skip = now + WRONG_FROM, schedule.last_skip
    fired_ahead = schedule.last_fired_at is not None and schedule.last_fired_at > latest
    skipped_ahead = skip is not None and skip.tick > latest
    made_ahead = schedule.starts_at is None and schedule.anchor > latest
    if not (fired_ahead or skipped_ahead or made_ahead):
        return schedule
    after = structs.replace(
        schedule,
        version=schedule.version + 1,
        last_fired_at=None if fired_ahead else schedule.last_fired_at,
        last_skip=None if skipped_ahead else skip,
        firings=tuple(one for one in schedule.firings if one.tick <= latest),
        anchor=now if made_ahead else schedule.anchor,
    )
    return structs.replace(after, next_fire_at=resumed_at(after, now))


class Plan(NamedTuple):
    """The ticks to submit tasks for, oldest first, the next tick after them, and why the latest other was skipped.

    missed: the latest ticks that no task is submitted for, oldest first.
    """

    ticks: list[datetime]
    next_fire_at: datetime | None
    skip: Skip | None
    missed: list[datetime] = []


def plan(schedule: Schedule, now: datetime) -> Plan:
    """Decide about the ticks from `next_fire_at`, which is due, to `now`.

    All ticks but the last are missed. The last one is missed if it is MISSED_AFTER ago or longer.
    """
    due = _latest_due(schedule, now)
    following = next_tick(schedule, max(now, due[-1]))
    if schedule.missed == "all":
        return Plan(due, following, None)
    is_missed = now - due[-1] >= MISSED_AFTER
    if schedule.missed == "skip" and is_missed:
        return Plan([], following, Skip(tick=due[-1], reason="missed"), due)
    skip = Skip(tick=due[-2], reason="missed") if schedule.missed == "skip" and len(due) > 1 else None
    return Plan(due[-1:], following, skip, due[:-1])


def _latest_due(schedule: Schedule, now: datetime) -> list[datetime]:
    """Return the latest ticks up to `now`, at most MOST_MISSED, without computing years of earlier ones."""
    first = schedule.next_fire_at
    assert first is not None
    for length in _LOOK_BACK:
        start = max(first - timedelta(microseconds=1), now - length)
        latest: deque[datetime] = deque(maxlen=MOST_MISSED)
        for tick in ticks(schedule, start):
            if tick > now:
                break
            latest.append(tick)
        if len(latest) == MOST_MISSED or start < first:
            break
    return list(latest) or [first]


class Resolution(NamedTuple):
    """What a firing does, given the open tasks of its schedule: drafts to submit, tasks to cancel."""

    drafts: tuple[Draft, ...]
    cancel: tuple[UUID, ...]
    skip: Skip | None


def resolve(firing: Firing, open_tasks: Collection[UUID]) -> Resolution:
    """Apply the schedule's rule for overlaps; of several ticks at once, each overlaps the one before."""
    drafts, overlap = firing.drafts, firing.schedule.overlap
    if overlap == "allow" or not drafts:
        return Resolution(drafts, (), firing.skip)
    if overlap == "replace":
        return Resolution(drafts[-1:], tuple(open_tasks), firing.skip)
    kept = () if open_tasks else drafts[:1]
    if kept == drafts:
        return Resolution(kept, (), firing.skip)
    return Resolution(kept, (), Skip(tick=tick_of(drafts[-1]), reason="overlap"))


def settle(
    firing: Firing,
    resolution: Resolution,
    open_tasks: Collection[UUID],
    submitted: Sequence[Draft],
    refused: Sequence[PastTick] = (),
) -> Schedule:
    """Return the schedule after a firing that `submitted` these of its drafts, while others were `refused`."""
    before = firing.schedule
    last = max((tick_of(draft) for draft in submitted), default=before.last_fired_at)
    kept = before.recent if before.overlap == "allow" else tuple(open_tasks)
    return structs.replace(
        before,
        version=before.version + 1,
        next_fire_at=firing.next_fire_at,
        last_fired_at=last,
        last_skip=resolution.skip or before.last_skip,
        last_task_id=submitted[-1].task_id if submitted else before.last_task_id,
        recent=with_recent(kept, *(draft.task_id for draft in submitted)),
        firings=(*before.firings, *_past(firing, submitted, refused))[-KEEP_FIRINGS:],
    )


def _past(firing: Firing, submitted: Sequence[Draft], refused: Sequence[PastTick]) -> list[PastTick]:
    """Return what became of the ticks of a firing, oldest first."""
    tasks = {draft.task_id for draft in submitted}
    others = {one.tick: one for one in refused}
    past = list(firing.past)
    for draft in firing.drafts:
        tick = tick_of(draft)
        if draft.task_id in tasks:
            past.append(PastTick(tick=tick, fired_at=firing.now, task_id=draft.task_id))
        else:
            past.append(others.get(tick) or PastTick(tick=tick, fired_at=firing.now, skipped="overlap"))
    return sorted(past, key=lambda one: one.tick)


def with_recent(recent: Collection[UUID], *task_ids: UUID) -> tuple[UUID, ...]:
    """Return the tasks to check for overlaps, the newest last."""
    return tuple(dict.fromkeys([*recent, *task_ids]))[-KEEP_RECENT:]


def for_tick(draft: Draft, schedule: Schedule, tick: datetime) -> Draft:
    """Return the draft for a tick. Its id follows from the tick, so that no store can have a second task for it."""
    extra = structs.replace(draft.extra or Extra(), schedule_id=schedule.schedule_id, scheduled_for=tick)
    return structs.replace(draft, task_id=tick_task_id(schedule.schedule_id, tick), extra=extra)


def tick_of(draft: Draft) -> datetime:
    """Return the tick that a draft is for."""
    assert draft.extra is not None
    assert draft.extra.scheduled_for is not None
    return draft.extra.scheduled_for


def tick_task_id(schedule_id: UUID, tick: datetime) -> UUID:
    """Return the UUIDv7 of a tick's task: the tick in milliseconds, then a digest of the tick and its schedule."""
    digest = sha256(schedule_id.bytes + tick.astimezone(UTC).isoformat().encode()).digest()
    value = bytearray(max(0, int(tick.timestamp() * 1000)).to_bytes(6, "big") + digest[:10])
    value[6] = value[6] & 0x0F | 0x70
    value[8] = value[8] & 0x3F | 0x80
    return UUID(bytes=bytes(value))
