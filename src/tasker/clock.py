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


def to_micros(moment: datetime) -> int:
    """Return `moment` as whole microseconds since 1970 (exact, unlike `timestamp()`)."""
    return (moment - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Return the aware UTC datetime of whole microseconds since 1970."""
    return EPOCH + timedelta(microseconds=micros)
