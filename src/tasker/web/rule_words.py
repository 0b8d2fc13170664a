"""The rules of schedules in words, for those that people write most; others are shown as they are. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta

from tasker.model.schedules import Schedule

_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_NAMES: Mapping[str, int] = {name[:3].upper(): number for number, name in enumerate(_DAYS)}
_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
_RANGE = re.compile(r"(\d+)-(\d+)")
_STEP = re.compile(r"\*/(\d+)")


def in_words(schedule: Schedule) -> str:
    """Return when a schedule fires, in words; "" for a rule that is easier to read as it is."""
    if schedule.interval is not None:
        return f"Every {_length(schedule.interval)}"
    return "" if schedule.cron is None else cron_in_words(schedule.cron)


def _length(time: timedelta) -> str:
    seconds = time.total_seconds()
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds % size == 0), (1, "second"))
    number = seconds / size
    return unit if number == 1 else f"{number:g} {unit}s"


def cron_in_words(rule: str) -> str:
    """Return a rule of five fields in words, "" for one without a simple sentence."""
    minute, hour, day, month, weekday = rule.split()
    if month != "*" or (day != "*" and weekday != "*"):
        return ""
    days = _days_of_month(day) if day != "*" else _weekdays(weekday)
    return "" if days is None else _sentence(days, minute, hour)


def _sentence(days: str, minute: str, hour: str) -> str:
    """Return the sentence for days ("" for every day) and a time of the day."""
    step, hours, every = _STEP.fullmatch(minute), _RANGE.fullmatch(hour), _STEP.fullmatch(hour)
    on = f"{days}, " if days else ""
    if hour == "*" and (minute == "*" or step):
        return _capital(f"{on}every {'minute' if step is None or step[1] == '1' else f'{step[1]} minutes'}")
    if not minute.isdigit():
        return ""
    past = "" if minute == "0" else f" at :{int(minute):02}"
    if hour == "*":
        return _capital(f"{on}hourly{past}")
    if hours is not None:
        return _capital(f"{on}hourly from {hours[1]} to {hours[2]}{past}")
    if every is not None:
        return _capital(f"{on}every {every[1]} hours{past}")
    if all(one.isdigit() for one in hour.split(",")):
        times = _listed([f"{int(one):02}:{int(minute):02}" for one in hour.split(",")])
        return f"{_capital(days)} at {times}" if days else f"Daily at {times}"
    return ""


def _weekdays(field: str) -> str | None:
    """Return days of the week, "" for all of them; None for what has no simple name."""
    if field in ("*", "?"):
        return ""
    numbers: list[int] = []
    for part in field.upper().split(","):
        ends = [_NAMES[one] if one in _NAMES else int(one) if one.isdigit() else -1 for one in part.split("-")]
        if -1 in ends or len(ends) > 2 or ends[0] > ends[-1] or ends[-1] > 7:
            return None
        numbers += range(ends[0], ends[-1] + 1)
    found = sorted({number % 7 for number in numbers})
    if found == [1, 2, 3, 4, 5]:
        return "weekdays"
    if len(found) == 7:
        return ""
    if found == [0, 6]:
        return "weekends"
    return _listed(
        [f"{_DAYS[number]}s" for number in [*(one for one in found if one), *(one for one in found if not one)]]
    )


def _days_of_month(field: str) -> str | None:
    if field == "L":
        return "the last day of the month"
    if not all(one.isdigit() for one in field.split(",")):
        return None
    return _listed([_ordinal(int(one)) for one in field.split(",")])


def _ordinal(number: int) -> str:
    ending = "th" if 10 < number % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
