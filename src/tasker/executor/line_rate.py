"""A limit on the lines of a task in the service's log: a loop that prints must not keep the service busy."""

from __future__ import annotations

import time

BURST = 2000
PER_SECOND = 500
_DROPPED = "{:,} lines dropped: more than " + f"{PER_SECOND} a second"


class LineRate:
    """Allow BURST lines at once, then PER_SECOND; count those dropped."""

    def __init__(self) -> None:
        self._allowance = float(BURST)
        self._since = time.monotonic()
        self._dropped = 0

    def take(self) -> bool:
        """Return whether one more line may pass; count it as dropped if not."""
        now = time.monotonic()
        self._allowance = min(BURST, self._allowance + (now - self._since) * PER_SECOND)
        self._since = now
        if self._allowance < 1:
            self._dropped += 1
            return False
        self._allowance -= 1
        return True

    def drop(self, lines: int) -> None:
        """Count `lines` as dropped, whatever the allowance."""
        self._dropped += lines

    def take_notice(self) -> str | None:
        """Return a message about the lines dropped since the last call, None if there were none."""
        dropped, self._dropped = self._dropped, 0
        return _DROPPED.format(dropped) if dropped else None
