"""Time as a dependency: production reads the system's clocks, tests move a manual one."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
_TOLERANCE = 500_000
"""Difference in microseconds between wall clock and elapsed time above which the wall clock counts as set."""
MOST_AHEAD = timedelta(hours=1)
LASTS_FOR = timedelta(hours=1)
"""If the wall clock jumps ahead by more than MOST_AHEAD, at run time or between runs, nothing expires for LASTS_FOR."""


class Clock(Protocol):
    """Three clocks that must never be mixed: one to store, two to measure."""

    def now(self) -> datetime:
        """Return the wall clock as an aware UTC datetime, to store and to compare with stored times."""

    def monotonic(self) -> float:
        """Return seconds that never jump, to measure durations; never store them."""

    def elapsed(self) -> float:
        """Return seconds that never jump and go on while the machine sleeps, to compare the wall clock with."""


class SystemClock:
    """The clocks of the machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def elapsed(self) -> float:
        return since_boot()


class Steps:
    """Detects when the wall clock is set: it then differs from the elapsed time.

    known: a time in microseconds that the wall clock has shown for certain, for example in an earlier process.
    """

    def __init__(self, clock: Clock, known: int = 0) -> None:
        self._clock = clock
        now = to_micros(clock.now())
        self._ahead = (known if known - now > _TOLERANCE else now) - elapsed_micros(clock)

    def pending(self) -> int:
        """Return by how many microseconds the clock was set since `follow`; 0 within the tolerance."""
        step = to_micros(self._clock.now()) - elapsed_micros(self._clock) - self._ahead
        return step if abs(step) > _TOLERANCE else 0

    def follow(self, step: int) -> None:
        """Accept a step: it is no longer pending."""
        self._ahead += step


class Lagging:
    """The time that decides what has expired: the wall clock's, but a jump ahead counts only once it has lasted.

    A clock that is wrong for a while must not erase anything for good. Call `tell` regularly. All times are in
    microseconds: `elapsed` of the steady clock, all others since 1970. known: what `tell` returned last in an earlier
    process; 0 if nothing is known.
    """

    def __init__(self, elapsed: int, known: int = 0) -> None:
        self._told = known
        self._at = elapsed
        self._ahead, self._since = 0, elapsed

    def tell(self, wall: int, elapsed: int, *, at_least: int = 0) -> int:
        """Return the time for expiry while the wall clock shows `wall`. at_least: the time that other processes use."""
        expected = max(self._told + elapsed - self._at, at_least)
        if abs(wall - elapsed - self._ahead) > _TOLERANCE:
            self._ahead, self._since = wall - elapsed, elapsed
        is_jump = self._told and wall - expected > MOST_AHEAD // MICROSECOND
        held = is_jump and elapsed - self._since < LASTS_FOR // MICROSECOND
        self._told, self._at = expected if held else wall, elapsed
        return self._told


def since_boot() -> float:
    """Return seconds that go on while the machine sleeps, if the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


def monotonic_micros(clock: Clock) -> int:
    """Return the monotonic clock in whole microseconds."""
    return round(clock.monotonic() * 1_000_000)


def elapsed_micros(clock: Clock) -> int:
    """Return the elapsed time in whole microseconds."""
    return round(clock.elapsed() * 1_000_000)


def to_utc(moment: datetime) -> datetime:
    """Return an aware datetime in UTC. Raises ValueError if its year in UTC is not from 1 to 9999."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("expected a time from the year 1 to the year 9999 in UTC") from None


def check_storable(moment: datetime) -> None:
    """Raise ValueError for a time without a zone, or whose year in UTC is not from 1 to 9999."""
    if moment.tzinfo is None:
        raise ValueError(f"expected a time with a zone, got {moment.isoformat()}")
    to_utc(moment)


def to_micros(moment: datetime) -> int:
    """Return `moment` as whole microseconds since 1970 (exact, unlike `timestamp()`)."""
    return (moment - EPOCH) // MICROSECOND


def from_micros(micros: int) -> datetime:
    """Return the aware UTC datetime of whole microseconds since 1970."""
    return EPOCH + timedelta(microseconds=micros)
