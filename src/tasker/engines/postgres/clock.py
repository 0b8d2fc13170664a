"""The database's time, used throughout the process: the wall clock of this machine may be wrong, or be set."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from tasker.clock import since_boot


class DatabaseClock:
    """A Clock that starts from the database's last answer and advances with the monotonic clock."""

    def __init__(self) -> None:
        self._last = datetime.now(UTC)
        self._at = time.monotonic()

    def now(self) -> datetime:
        return self._last + timedelta(seconds=time.monotonic() - self._at)

    def monotonic(self) -> float:
        return time.monotonic()

    def elapsed(self) -> float:
        return since_boot()

    def set(self, now: datetime, ago: float) -> None:
        """Go on from the database's answer `now`, which was true `ago` seconds ago."""
        self._last, self._at = now, time.monotonic() - ago
