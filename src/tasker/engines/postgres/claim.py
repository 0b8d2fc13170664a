"""Claims that wait: woken by news of a line, by the moment of a task, or by looking again now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import timedelta
from random import Random, SystemRandom

from tasker.engines.postgres.line import wanted
from tasker.engines.protocol import ClaimRequest

MOST_LINES = 1000
"""Lines that one look is at: the database's work for a claim grows with them."""
POLL_EVERY = 2.0
"""Seconds between looks while news arrive; they are a hint and may be lost."""
POLL_DEAF = 0.5
"""Seconds between looks while the listener is not connected."""
_LONGEST_SLEEP = 1.0
"""Seconds between looks at the clock while a task waits for its moment: the database's clock may be set."""
_SHORTEST_SLEEP = 0.03
"""Seconds: a due task that somebody holds must not keep us looking all the time."""
_random = SystemRandom()
_LEAST_PATIENCE, _MOST_PATIENCE = 0.004, 0.25
"""Seconds."""


class Patience:
    """How long a claim that news has woken lets others go first: where many hear of one task, most find it taken.

    The first wake-up that finds nothing makes it wait a little, each further one twice as long, and each that finds
    something half as long. So a worker alone takes a task at once, and of many one comes first by chance.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._most = 0.0

    def found(self, something: bool) -> None:
        """Learn from what a wake-up led to."""
        if not something:
            self._most = min(max(self._most * 2, _LEAST_PATIENCE), _MOST_PATIENCE)
        elif self._most > _LEAST_PATIENCE:
            self._most /= 2
        else:
            self._most = 0.0

    def seconds(self) -> float:
        """Return how long to wait this time."""
        return self._random.uniform(0, self._most)


class Window:
    """Which lines the claims of one lane look at next: MOST_LINES at a time, round and round.

    With no more lines than that each look is at all of them. With more, larger priorities come first among those that
    are looked at together.
    """

    def __init__(self) -> None:
        self.after = ""
        self._is_whole = True
        """Whether the round that is under way began at the first line, and nothing was claimed in it."""

    def move(self, lines: Sequence[str]) -> None:
        """Go on behind the lines that were looked at; to the first one, if there may be no more."""
        self._is_whole = self._is_whole or not self.after
        self.after = lines[-1] if len(lines) >= MOST_LINES else ""

    def is_done(self, found: bool) -> bool:
        """Tell whether all lines were looked at, and nothing was claimed of any."""
        self._is_whole = self._is_whole and not found
        return self._is_whole and not self.after


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
        """Wake those who take tasks of these lines; `queue/*` is every line of a queue (limits.any_line)."""
        joined = list(lines)
        changed = {line.removesuffix("/*") for line in joined if line.endswith("/*")}
        for waiter in self._waiters:
            ordinary, suspects = wanted(waiter.request, joined)
            queues = waiter.request.queues
            if ordinary or suspects or (changed and (queues is None or not changed.isdisjoint(queues))):
                waiter.news.set()

    def wake_all(self) -> None:
        for waiter in self._waiters:
            waiter.news.set()


def seconds_to_look(next_in: timedelta | None, *, is_deaf: bool) -> float:
    """Return how long a claim may sleep; `next_in` is the time to the next task that waits for a moment."""
    longest = POLL_DEAF if is_deaf else POLL_EVERY
    if next_in is None:
        return longest
    return max(_SHORTEST_SLEEP, min(next_in.total_seconds(), longest, _LONGEST_SLEEP))


def soon(next_in: timedelta | None) -> timedelta:
    """Return when to look again where others held what was in line: they may leave some of it."""
    others = timedelta(seconds=_random.uniform(_SHORTEST_SLEEP, 0.15))
    return others if next_in is None else min(next_in, others)


def earliest(*times: timedelta | None) -> timedelta | None:
    """Return the shortest of these; None if there is none."""
    return min((time for time in times if time is not None), default=None)
