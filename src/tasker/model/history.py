"""Recent run times of each task type in this process: for estimates, never a source of truth."""

from __future__ import annotations

from datetime import timedelta

_WEIGHT = 0.1
"""Weight of the newest run in the moving average."""
_MOST_TYPES = 10_000


class History:
    """Moving averages of run times, by task type."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def note(self, type_: str, run_time: timedelta) -> None:
        """Add the run time of an attempt that has ended."""
        seconds = max(0.0, run_time.total_seconds())
        before = self._seconds.get(type_)
        if before is None and len(self._seconds) >= _MOST_TYPES:
            return
        self._seconds[type_] = seconds if before is None else before + _WEIGHT * (seconds - before)

    def run_time(self, type_: str) -> timedelta | None:
        """Return about how long an attempt of the type runs; None if none has ended here."""
        seconds = self._seconds.get(type_)
        return None if seconds is None else timedelta(seconds=seconds)
