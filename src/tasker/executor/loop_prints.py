"""Makes lines of what an attempt prints on a loop, for the task's log."""

from __future__ import annotations

import threading
from collections.abc import Callable

MAX_LINES = 1000
"""How many printed lines of an attempt are kept in its task's log."""
MAX_LINE = 8 * 1024
"""Characters of a printed line that are kept in the task's log; the rest is cut off."""

Take = Callable[[str, str], None]
"""Takes the name of a stream, and a line that was printed to it."""


class LoopPrints:
    """The lines that an attempt prints, for use from all of its threads. take: called with each line.

    It stops after one line more than the task's log keeps: that one lets the log say so.
    """

    __slots__ = ("_left", "_lock", "_rests", "_take")

    def __init__(self, take: Take) -> None:
        self._take = take
        self._rests: dict[str, str] = {}
        self._left = MAX_LINES + 1
        self._lock = threading.RLock()  # of code that prints while an object is freed, too

    def write(self, stream: str, text: str) -> None:
        """Take a piece of what is printed."""
        if self._left <= 0:
            return
        with self._lock:
            *lines, rest = (self._rests.get(stream, "") + text).split("\n")
            if len(rest) > MAX_LINE:
                lines, rest = [*lines, rest], ""
            self._rests[stream] = rest
            for line in lines:
                self._pass(stream, line)

    def end(self) -> None:
        """Take what was printed without an end of line."""
        with self._lock:
            for stream, rest in self._rests.items():
                self._pass(stream, rest)
            self._rests.clear()

    def _pass(self, stream: str, line: str) -> None:
        if line and self._left > 0:
            self._left -= 1
            self._take(stream, line.encode("utf-8", "backslashreplace").decode("utf-8"))
