"""Time as a dependency: production reads the system's clocks, tests move a manual one."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Clock(Protocol):
    """Two clocks that must never be mixed: one to store, one to measure."""

    def now(self) -> datetime:
        """Return the wall clock as an aware UTC datetime: to store, and to compare with stored times."""

    def monotonic(self) -> float:
        """Return seconds that never jump: to measure durations, never stored."""


class SystemClock:
    """The clocks of the machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


def to_utc(moment: datetime) -> datetime:
    """Return an aware datetime in UTC. Raises ValueError near the ends of the calendar, where UTC has no such year."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("expected a time from the year 1 to the year 9999 in UTC") from None


def check_storable(moment: datetime) -> None:
    """Raise ValueError for a time without a zone, or one that UTC has no year for."""
    if moment.tzinfo is None:
        raise ValueError(f"expected a time with a zone, got {moment.isoformat()}")
    to_utc(moment)


def to_micros(moment: datetime) -> int:
    """Return `moment` as whole microseconds since 1970 (exact, unlike `timestamp()`)."""
    return (moment - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Return the aware UTC datetime of whole microseconds since 1970."""
    return EPOCH + timedelta(microseconds=micros)
