"""A simulation for what no formula gives: waits in batches that form by themselves. Seeded; times are in seconds."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random


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
