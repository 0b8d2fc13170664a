"""How long attempts of each task type have run of late in this process: for estimates, never a source of truth."""

from __future__ import annotations

from datetime import timedelta

_WEIGHT = 0.1
"""What the newest run counts in the moving average."""
_MOST_TYPES = 10_000


class History:
    """Moving averages of run times, by task type."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def note(self, type_: str, run_time: timedelta) -> None:
        """Count a run that has ended."""
        seconds = max(0.0, run_time.total_seconds())
        before = self._seconds.get(type_)
        if before is None and len(self._seconds) >= _MOST_TYPES:
            return
        self._seconds[type_] = seconds if before is None else before + _WEIGHT * (seconds - before)

    def run_time(self, type_: str) -> timedelta | None:
        """Return how long a run of the type takes about; None if none was seen."""
        seconds = self._seconds.get(type_)
        return None if seconds is None else timedelta(seconds=seconds)
