"""Claims that wait: woken by news of a line, by the moment of a task, or by looking again now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta

from tasker.engine import ClaimRequest
from tasker.engines.postgres.line import wanted

POLL_EVERY = 2.0
"""Seconds between looks while news arrive; they are a hint and may be lost."""
POLL_DEAF = 0.5
"""Seconds between looks while the listener is not connected."""
_LONGEST_SLEEP = 1.0
"""Seconds between looks at the clock while a task waits for its moment: the database's clock may be set."""


class Waiter:
    """One waiting claim."""

    def __init__(self, request: ClaimRequest) -> None:
        self.request = request
        self.news = asyncio.Event()


class Waiters:
    """The claims that wait in this process."""

    def __init__(self) -> None:
        self._waiters: list[Waiter] = []

    def join(self, request: ClaimRequest) -> Waiter:
        waiter = Waiter(request)
        self._waiters.append(waiter)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        self._waiters.remove(waiter)

    def wake(self, lines: Iterable[str]) -> None:
        """Wake those who take tasks of these lines."""
        joined = list(lines)
        for waiter in self._waiters:
            ordinary, suspects = wanted(waiter.request, joined)
            if ordinary or suspects:
                waiter.news.set()

    def wake_all(self) -> None:
        for waiter in self._waiters:
            waiter.news.set()


def seconds_to_look(next_in: timedelta | None, *, is_deaf: bool) -> float:
    """Return how long a claim may sleep; `next_in` is the time to the next task that waits for a moment."""
    longest = POLL_DEAF if is_deaf else POLL_EVERY
    if next_in is None:
        return longest
    return max(0.0, min(next_in.total_seconds(), longest, _LONGEST_SLEEP))
