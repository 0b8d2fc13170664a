"""Waiting claims: woken by notifications, when a scheduled task is due, and now and then by polling."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from random import Random, SystemRandom
from typing import Any, NamedTuple

from tasker.engines.postgres.partitions import wanted
from tasker.engines.postgres.targeting import Pool
from tasker.engines.protocol import ClaimRequest

LOOKED_AT_ONCE = 1000
"""Partitions that one look covers: the database's work for a claim grows with their number."""
POLL_EVERY = 2.0
"""Seconds between looks while notifications arrive, since some may be lost."""
POLL_DEAF = 0.5
"""Seconds between looks while the listener is not connected."""
_LONGEST_SLEEP = 1.0
"""Seconds between looks at the clock while a task waits for its time: the database's clock may be set."""
_SHARED_FOR = 0.1
"""Seconds for which other claims use a look, if nothing is heard meanwhile."""
_SHORTEST_SLEEP = 0.03
"""Minimum seconds between looks: a due task that another process has locked must not cause a busy loop."""
_random = SystemRandom()
_LEAST_PATIENCE, _MOST_PATIENCE = 0.004, 0.25
"""Seconds."""


class Patience:
    """The delay of a claim that everybody was woken with: when many are notified of one task, most find it taken.

    The first wake-up that finds nothing starts a short delay; each further one doubles it, and each that finds a task
    halves it. So a single worker takes a task at once, and among many workers a random one is first.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._most = 0.0

    def found(self, something: bool) -> None:
        """Adapt the delay after a wake-up."""
        if not something:
            self._most = min(max(self._most * 2, _LEAST_PATIENCE), _MOST_PATIENCE)
        elif self._most > _LEAST_PATIENCE:
            self._most /= 2
        else:
            self._most = 0.0

    def seconds(self) -> float:
        """Return the delay to use now, in seconds."""
        return self._random.uniform(0, self._most)


class Window:
    """The partitions that claims of one slot pool look at next: LOOKED_AT_ONCE at a time, in rotation.

    If there are more partitions, a larger priority comes first only within one look.
    """

    def __init__(self) -> None:
        self.after = ""
        self._is_whole = True
        """Whether the current round began at the first partition, and has claimed nothing."""
        self._known_until = float("-inf")

    def looked(self, next_in: timedelta | None, now: float) -> None:
        """Note a look at all partitions. next_in: time until the next scheduled task is due."""
        due_in = POLL_EVERY if next_in is None else next_in.total_seconds()
        self._known_until = now + min(POLL_EVERY, due_in)

    def known_for(self, now: float) -> timedelta | None:
        """Return for how long a chosen claim need not look: it is told of what came after the last look.

        None if it must look.
        """
        is_known = not self.after and now < self._known_until
        return timedelta(seconds=self._known_until - now) if is_known else None

    def move(self, partitions: Sequence[str]) -> None:
        """Continue after the partitions that were looked at; start over if these may be the last ones."""
        self._is_whole = self._is_whole or not self.after
        self.after = partitions[-1] if len(partitions) >= LOOKED_AT_ONCE else ""

    def is_done(self, found: bool) -> bool:
        """Return whether all partitions were looked at, and nothing was claimed."""
        self._is_whole = self._is_whole and not found
        return self._is_whole and not self.after


class Found(NamedTuple):
    """What a look found: the partitions with queued tasks, and the time until the next scheduled task is due."""

    partitions: Sequence[str]
    next_in: timedelta | None


class Look(NamedTuple):
    """A look at the first partitions, finished or not. heard: `Waiters.heard` when it began."""

    began_at: float
    heard: int
    found: asyncio.Future[Found]


class Polls:
    """The looks of claims that poll: all of a process do so at the same time, and one look serves them."""

    def __init__(self) -> None:
        self._began_at: float | None = None
        self._latest: Look | None = None

    def pause(self, seconds: float, now: float) -> float:
        """Return how long a claim pauses that may sleep so long: until the others look too."""
        if self._began_at is None:
            self._began_at = now
        left = seconds - (now - self._began_at) % seconds
        return left if left > _SHARED_FOR else left + seconds

    def begin(self, look: Look) -> None:
        """Let others use a look."""
        self._latest = look

    def latest(self, heard: int, now: float, used: Look | None) -> Look | None:
        """Return a look that tells a claim what a new one would; None if it must look itself.

        heard: `Waiters.heard`. used: the claim's look before, None if this is its first.
        """
        latest = self._latest
        if latest is None or used is None or latest is used or latest.heard != heard:
            return None
        return latest if now - latest.began_at <= _SHARED_FOR else None


class Waiter:
    """One waiting claim. woken: it is to look. chosen: it was chosen to look, so it lets nobody go first."""

    def __init__(self, request: ClaimRequest) -> None:
        self.request = request
        self.woken = asyncio.Event()
        self.chosen = asyncio.Event()
        self._named: list[str] | None = []
        self.look: Look | None = None
        """Its latest look at the first partitions."""
        self._promised = 0

    def wake(self, partitions: Sequence[str], *, is_chosen: bool) -> None:
        """Have it look. is_chosen: it was chosen for the new tasks of these partitions."""
        self.woken.set()
        if is_chosen:
            self.chosen.set()
            if self._named is not None:
                self._named += partitions
        else:
            self._named = None

    def begin_look(self) -> list[str]:
        """Forget what it was woken for: the look that begins now finds all of it.

        Return the partitions that it was chosen for, if that is all it was woken for.
        """
        named, self._named = self._named, []
        self.woken.clear()
        self.chosen.clear()
        self._promised = 0
        return list(dict.fromkeys(named or ()))

    def promise(self, partition: str, count: int) -> int:
        """Reserve free slots for new tasks of a partition, until the next look; return how many."""
        ordinary, suspects = wanted(self.request, (partition,))
        free = self.request.limit if ordinary else self.request.suspects if suspects else 0
        given = min(count, max(0, free - self._promised))
        self._promised += given
        return given


class Waiters:
    """The claims that wait in this process."""

    def __init__(self) -> None:
        self._waiters: list[Waiter] = []
        self.heard = 0
        """Counts what may have added tasks for the claims of this process."""

    def join(self, request: ClaimRequest) -> Waiter:
        waiter = Waiter(request)
        self._waiters.append(waiter)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        self._waiters.remove(waiter)

    def promise(self, partition: str, count: int) -> int:
        """Leave new tasks of a partition to claims that wait here, as far as they have slots; return how many."""
        left = count
        for waiter in self._waiters:
            left -= waiter.promise(partition, left)
        return count - left

    def pools_of(self, worker: str) -> tuple[Pool, ...]:
        """Return the free slots of a worker's waiting claims."""
        requests = [waiter.request for waiter in self._waiters if waiter.request.worker == worker]
        return tuple(Pool(tuple(sorted(one.types)), one.limit, one.suspects) for one in requests)

    def wake(self, partitions: Iterable[str], *, is_chosen: bool = False) -> None:
        """Wake claims that take tasks of these partitions; `queue/*` is every one of a queue (any_partition)."""
        named = list(partitions)
        self.heard += bool(named)
        changed = {partition.removesuffix("/*") for partition in named if partition.endswith("/*")}
        for waiter in self._waiters:
            ordinary, suspects = wanted(waiter.request, named)
            queues = waiter.request.queues
            if ordinary or suspects or (changed and (queues is None or not changed.isdisjoint(queues))):
                waiter.wake(named, is_chosen=is_chosen and not changed)

    def wake_all(self) -> None:
        self.heard += 1
        for waiter in self._waiters:
            waiter.wake((), is_chosen=False)


class Rests:
    """Claims that need not look at once: the one before took fewer tasks than it asked for."""

    def __init__(self) -> None:
        self._rests: dict[tuple[Any, ...], tuple[int, float]] = {}

    def begin(self, request: ClaimRequest, taken: int, heard: int, again_in: timedelta | None) -> None:
        """Note that a claim took so many tasks.

        heard: `Waiters.heard` when it began. again_in: time until more may be there.
        """
        if again_in is not None and taken < min(most for most in (request.limit, request.suspects) if most):
            until = asyncio.get_running_loop().time() + again_in.total_seconds()
            self._rests[_pool_of(request)] = heard, until

    def left(self, request: ClaimRequest, heard: int) -> float:
        """Return for how many seconds the next claim may wait before it looks, if nothing was heard since."""
        then, until = self._rests.pop(_pool_of(request), (-1, 0.0))
        return max(0.0, until - asyncio.get_running_loop().time()) if then == heard else 0.0


def _pool_of(request: ClaimRequest) -> tuple[Any, ...]:
    queues = None if request.queues is None else frozenset(request.queues)
    return request.worker, frozenset(request.types), queues, request.suspects > 0


def seconds_to_look(next_in: timedelta | None, *, is_deaf: bool) -> float:
    """Return how long a claim may sleep. next_in: time until the next scheduled task is due."""
    longest = POLL_DEAF if is_deaf else POLL_EVERY
    if next_in is None:
        return longest
    return max(_SHORTEST_SLEEP, min(next_in.total_seconds(), longest, _LONGEST_SLEEP))


def soon(next_in: timedelta | None, partitions: Collection[str], vain: int = 0) -> timedelta:
    """Return the time until the next look after a claim that took all it could get.

    Other processes may release what they have locked: PgQueuer locks as many jobs in each partition as it takes from
    all. In a single partition it takes what it locks. vain: claims in succession that found nothing.
    """
    seconds = POLL_EVERY if len(partitions) == 1 else _random.uniform(_SHORTEST_SLEEP, 0.15) * 2 ** min(vain, 6)
    others = timedelta(seconds=min(seconds, POLL_EVERY))
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
