"""How fast a list may be read on and on while tasks are stored."""

from __future__ import annotations

from collections.abc import Callable

REST = 6.0
"""Seconds of rest for each second of scans, of which a scan has the processor for a part only (`reader.NICER`)."""
GRACE = 0.1
"""Seconds of rest that may be owed: somebody who looks at a few pages waits for nothing."""
LONGEST = 0.5
"""Seconds that a page rests at most."""


class ScanPace:
    """Says how long the next page of a list rests, so that reading a whole list leaves the processor to tasks.

    A lower priority of the scans' threads is not enough: on one core they kept 0.72 of the submissions at their rate,
    and with a much lower one a thread that waits for the processor holds Python's lock too long (`reader.NICER`).
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """monotonic: the time in seconds."""
        self._monotonic = monotonic
        self._owed_until = float("-inf")

    def took(self, seconds: float) -> None:
        """Note how long a scan has taken."""
        self._owed_until = max(self._owed_until, self._monotonic()) + REST * seconds

    def rest(self) -> float:
        """Return the seconds that a page rests before it is read."""
        return min(max(0.0, self._owed_until - self._monotonic() - GRACE), LONGEST)
