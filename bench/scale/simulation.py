"""Simulations for what no formula gives: many workers woken for one task, and waits in batches that form by themselves.

Discrete events, seeded. Times are in seconds.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random


class Events:
    """The agenda: callables in the order of their time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, time: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (time, self._count, act))

    def run(self) -> None:
        while self._heap:
            self.now, _, act = heapq.heappop(self._heap)
            act()


class Cores:
    """A database with a number of cores; work queues for them."""

    def __init__(self, events: Events, count: int) -> None:
        self._events, self._free = events, count
        self._line: deque[tuple[float, Callable[[], None]]] = deque()
        self.used = 0.0

    def work(self, seconds: float, then: Callable[[], None]) -> None:
        self._line.append((seconds, then))
        self._next()

    def _next(self) -> None:
        while self._free and self._line:
            self._free -= 1
            seconds, then = self._line.popleft()
            self.used += seconds
            self._events.at(self._events.now + seconds, lambda then=then: self._done(then))  # type: ignore[misc]

    def _done(self, then: Callable[[], None]) -> None:
        self._free += 1
        then()
        self._next()


@dataclass(frozen=True)
class Herd:
    """For one task: looks and claims, the time of its claim, and the database's seconds."""

    looks: int
    claims: int
    claimed_after: float
    used: float


def herd(
    workers: int, *, cores: int = 1, spread: float = 0.0, look: float = 80e-6, claim: float = 600e-6,
    listen: float = 30e-6, round_trip: float = 300e-6, seed: int = 1,
) -> Herd:  # fmt: skip
    """Wake idle workers for one task.

    Each is notified, waits a random part of `spread`, looks, and begins to claim if the task is still there.
    """
    events, random = Events(), Random(seed)
    database = Cores(events, cores)
    seen = {"looks": 0, "claims": 0}
    claimed: list[float] = []

    def told() -> None:
        events.at(events.now + random.uniform(0, spread), lambda: database.work(look, looked))

    def looked() -> None:
        seen["looks"] += 1
        if not claimed:
            events.at(events.now + round_trip, lambda: database.work(claim, ended))

    def ended() -> None:
        seen["claims"] += 1
        if not claimed:
            claimed.append(events.now)

    for _ in range(workers):
        database.work(listen, told)
    events.run()
    return Herd(seen["looks"], seen["claims"], claimed[0], database.used)


@dataclass(frozen=True)
class Waits:
    """Mean size of batches, and the seconds from arrival to commit: median and 99 %."""

    batch: float
    p50: float
    p99: float


def batches(
    rate: float, fixed: float, per_task: float, *, most: int = 256, tasks: int = 50_000, seed: int = 1
) -> Waits:
    """Send tasks at random, `rate` a second, to a process that stores one batch after the other."""
    random, now, free_at = Random(seed), 0.0, 0.0
    waiting: deque[float] = deque()
    took: list[float] = []
    sizes: list[int] = []
    upcoming = now + random.expovariate(rate)
    while len(took) < tasks:
        if not waiting:
            free_at = max(free_at, upcoming)
        while upcoming <= free_at:
            waiting.append(upcoming)
            upcoming += random.expovariate(rate)
        some = [waiting.popleft() for _ in range(min(most, len(waiting)))]
        free_at += fixed + per_task * len(some)
        sizes.append(len(some))
        took += [free_at - came for came in some]
    took.sort()
    return Waits(sum(sizes) / len(sizes), took[len(took) // 2], took[int(len(took) * 0.99)])
