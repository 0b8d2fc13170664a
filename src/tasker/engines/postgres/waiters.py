"""Claims that wait: notifications wake them, or the moment of a task; and they look again now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import timedelta
from random import Random, SystemRandom

from tasker.engines.postgres.partitions import wanted
from tasker.engines.protocol import ClaimRequest

LOOKED_AT_ONCE = 1000
"""Partitions of one look: the database's work for a claim grows with them."""
POLL_EVERY = 2.0
"""Seconds between looks while notifications arrive; they are a hint and may be lost."""
POLL_DEAF = 0.5
"""Seconds between looks while the listener is not connected."""
_LONGEST_SLEEP = 1.0
"""Seconds between looks at the clock while a task waits for its moment: the database's clock may be set."""
_SHORTEST_SLEEP = 0.03
"""Seconds: a due task that another process holds must not keep us looking all the time."""
_random = SystemRandom()
_LEAST_PATIENCE, _MOST_PATIENCE = 0.004, 0.25
"""Seconds."""


class Patience:
    """How long a woken claim lets others go first: where many are notified of one task, most find it taken.

    The first wake-up that finds nothing makes it wait a little, each further one twice as long, and each that finds
    something half as long. So a single worker takes a task at once, and among many a random one comes first.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._most = 0.0

    def found(self, something: bool) -> None:
        """Adapt to what a wake-up led to."""
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
    """Which partitions the claims of one slot pool look at next: LOOKED_AT_ONCE at a time, round and round.

    With no more than that, each look is at all of them. With more, larger priorities come first only among those of one
    look.
    """

    def __init__(self) -> None:
        self.after = ""
        self._is_whole = True
        """Whether the current round began at the first partition, and has claimed nothing."""

    def move(self, partitions: Sequence[str]) -> None:
        """Go on behind the partitions that were looked at; or to the first one, if these may be the last."""
        self._is_whole = self._is_whole or not self.after
        self.after = partitions[-1] if len(partitions) >= LOOKED_AT_ONCE else ""

    def is_done(self, found: bool) -> bool:
        """Return whether all partitions were looked at, and nothing was claimed."""
        self._is_whole = self._is_whole and not found
        return self._is_whole and not self.after


class Waiter:
    """One waiting claim."""

    def __init__(self, request: ClaimRequest) -> None:
        self.request = request
        self.woken = asyncio.Event()


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

    def wake(self, partitions: Iterable[str]) -> None:
        """Wake claims that take tasks of these partitions; `queue/*` is every one of a queue (any_partition)."""
        named = list(partitions)
        changed = {partition.removesuffix("/*") for partition in named if partition.endswith("/*")}
        for waiter in self._waiters:
            ordinary, suspects = wanted(waiter.request, named)
            queues = waiter.request.queues
            if ordinary or suspects or (changed and (queues is None or not changed.isdisjoint(queues))):
                waiter.woken.set()

    def wake_all(self) -> None:
        for waiter in self._waiters:
            waiter.woken.set()


def seconds_to_look(next_in: timedelta | None, *, is_deaf: bool) -> float:
    """Return how long a claim may sleep; `next_in` is the time to the next task that waits for a moment."""
    longest = POLL_DEAF if is_deaf else POLL_EVERY
    if next_in is None:
        return longest
    return max(_SHORTEST_SLEEP, min(next_in.total_seconds(), longest, _LONGEST_SLEEP))


def soon(next_in: timedelta | None) -> timedelta:
    """Return when to look again where other processes hold what is queued: they may leave some of it."""
    others = timedelta(seconds=_random.uniform(_SHORTEST_SLEEP, 0.15))
    return others if next_in is None else min(next_in, others)


def earliest(*times: timedelta | None) -> timedelta | None:
    """Return the shortest of these; None if there is none."""
    return min((time for time in times if time is not None), default=None)


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait until the event is set, and return True; after `seconds` set it, and return False."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    timer = loop.call_at(deadline, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()
    return loop.time() < deadline
