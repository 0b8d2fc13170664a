"""The slots of a worker: limits of concurrent attempts of each kind, and whether the worker keeps up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from tasker.clock import Clock, Steps
from tasker.model import PartitionStats

BEHIND_AFTER = timedelta(seconds=10)
"""If a due task has waited longer than this although a slot is free, the worker does not keep up."""


class SlotPool:
    """The slots for one kind of attempts, and the task types that may use them. suspects: for suspects only.

    A slot is free again when the function has ended, even if that end is not stored yet; but not while as many ends as
    there are slots wait for a slow store.
    """

    def __init__(self, name: str, types: frozenset[str], slots: int, *, suspects: bool = False) -> None:
        self.name = name
        self.types = types
        self.slots = slots
        self.suspects = suspects
        self._running = 0
        self._storing = 0
        self._freed: asyncio.Event | None = None  # set up while there is a wait for a free slot

    @property
    def free(self) -> int:
        return self.slots - self._running - max(0, self._storing - self.slots)

    def begin(self) -> None:
        """Take a slot."""
        self._running += 1

    def end(self) -> None:
        """Free the slot: the function has ended. Its end is about to be stored."""
        self._running -= 1
        self._storing += 1
        if self._freed is not None:
            self._freed.set()

    def stored(self) -> None:
        """Count the end as stored."""
        self._storing -= 1
        if self._freed is not None:
            self._freed.set()

    async def wait_free(self) -> int:
        """Return the number of free slots once there is one."""
        while self.free < 1:
            self._freed = asyncio.Event()
            await self._freed.wait()
            self._freed = None
        return self.free


class Backlog:
    """Compares the tasks that wait with the free slots of a worker."""

    def __init__(self, clock: Clock, pools: Sequence[SlotPool]) -> None:
        self._clock = clock
        self._pools = [pool for pool in pools if not pool.suspects]
        self._steps = Steps(clock)
        self._clock_set_at: float | None = None

    def health(self, partitions: Sequence[PartitionStats]) -> str:
        """Return "ok", or the first queue and type whose tasks wait although slots are free."""
        now, longest = self._clock.now(), self.follow_clock()
        for partition in partitions:
            if partition.oldest_due_at is None:
                continue
            waited = min(now - partition.oldest_due_at, longest)
            if waited > BEHIND_AFTER and self._has_free(partition.type):
                seconds = waited.total_seconds()
                return (
                    f"a {partition.type} task of queue {partition.queue} has waited {seconds:.0f} s"
                    " although slots are free"
                )
        return "ok"

    def follow_clock(self) -> timedelta:
        """Detect a step of the wall clock; return the time since the last step, which bounds every wait."""
        step = self._steps.pending()
        if step:
            self._steps.follow(step)
            self._clock_set_at = self._clock.elapsed()
        if self._clock_set_at is None:
            return timedelta.max
        return timedelta(seconds=self._clock.elapsed() - self._clock_set_at)

    def _has_free(self, type_name: str) -> bool:
        return any(pool.free > 0 for pool in self._pools if type_name in pool.types)
