"""A clock that tests move by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
"""Where a manual clock starts: not a round number, so that lost microseconds show."""


class ManualClock:
    """A Clock that stands still until it is moved; both its times move along together."""

    def __init__(self, start: datetime = START) -> None:
        if start.tzinfo is None:
            raise ValueError(f"start must be aware, got {start!r}")
        self._now = start.astimezone(UTC)
        self._monotonic = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def elapsed(self) -> float:
        return self._monotonic

    def advance(self, by: timedelta) -> datetime:
        """Move both times forward and return the new `now()`. Raises ValueError for a negative step."""
        if by < timedelta(0):
            raise ValueError(f"time does not run backwards, got {by}")
        self._now += by
        self._monotonic += by.total_seconds()
        return self._now

    def set(self, now: datetime) -> None:
        """Set the wall clock alone, to any moment, as a person or a time server does."""
        self._now = now.astimezone(UTC)
