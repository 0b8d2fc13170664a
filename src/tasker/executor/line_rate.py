"""How many lines of a task's may go into the service's log: a loop that prints must not keep the service busy."""

from __future__ import annotations

import time

BURST = 2000
PER_SECOND = 500
_DROPPED = "{:,} lines dropped: more than " + f"{PER_SECOND} a second"


class LineRate:
    """Lets BURST lines through at once, then PER_SECOND, and counts the others."""

    def __init__(self) -> None:
        self._allowance = float(BURST)
        self._since = time.monotonic()
        self._dropped = 0

    def take(self) -> bool:
        """Tell whether one more line may go through."""
        now = time.monotonic()
        self._allowance = min(BURST, self._allowance + (now - self._since) * PER_SECOND)
        self._since = now
        if self._allowance < 1:
            self._dropped += 1
            return False
        self._allowance -= 1
        return True

    def drop(self, lines: int) -> None:
        """Count so many lines that are not let through, whatever there is room for."""
        self._dropped += lines

    def confess(self) -> str | None:
        """Return what to say of the lines dropped since this was last asked, None if there were none."""
        dropped, self._dropped = self._dropped, 0
        return _DROPPED.format(dropped) if dropped else None
