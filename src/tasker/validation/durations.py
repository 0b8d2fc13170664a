"""Durations as clients write them: seconds, or ISO 8601."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tasker.validation.faults import kind_of

IsoDuration = Annotated[str, Meta(max_length=100, extra_json_schema={"format": "duration"})]
Duration = (
    Annotated[float, Meta(ge=0, description="Seconds, or an ISO 8601 duration of weeks, days and smaller units.")]
    | IsoDuration
)
_EXPECTED = "expected seconds or an ISO 8601 duration such as PT5M"
_WEEKS = re.compile(r"P(\d{1,6})W", re.ASCII)


def read_duration(value: Any, most: timedelta, *, least: timedelta = timedelta(0), zero: bool = True) -> timedelta:
    """Return a duration from `least` to `most`; `zero` says whether 0 is allowed.

    Raises ValueError with what was expected.
    """
    length = _length(value)
    if least <= length <= most and (length or zero):
        return length
    lowest = f"{least.total_seconds():g}" if zero else "more than 0"
    raise ValueError(f"expected {lowest} to {most.total_seconds():,.0f} seconds")


def _length(value: Any) -> timedelta:
    if isinstance(value, str):
        return _iso_length(value)
    if type(value) not in (int, float) or (type(value) is float and math.isnan(value)):
        raise ValueError(f"{_EXPECTED}, got {kind_of(value)}")
    try:
        return timedelta(seconds=value)
    except OverflowError:
        return timedelta.max  # out of range for every caller, also where the value is negative


def _iso_length(text: str) -> timedelta:
    weeks = _WEEKS.fullmatch(text)
    try:
        return timedelta(weeks=int(weeks[1])) if weeks else msgspec.convert(text[:200], timedelta)
    except msgspec.ValidationError as error:
        if "out of range" in str(error):
            return timedelta.max
        if "units" in str(error):
            raise ValueError(f"{_EXPECTED}; years and months differ in length") from None
        raise ValueError(_EXPECTED) from None
