"""The slots of a worker: how many attempts of each kind may run at a time."""

from __future__ import annotations

import asyncio


class SlotPool:
    """The slots for one kind of attempts, and the task types that may use them. suspects: for suspects only.

    A slot is free again when the function has ended, while that end is still being stored; unless the store is so slow
    that as many ends as there are slots wait for it.
    """

    def __init__(self, name: str, types: frozenset[str], slots: int, *, suspects: bool = False) -> None:
        self.name = name
        self.types = types
        self.slots = slots
        self.suspects = suspects
        self._running = 0
        self._storing = 0
        self._freed = asyncio.Event()

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
        self._freed.set()

    def stored(self) -> None:
        """Count the end as stored."""
        self._storing -= 1
        self._freed.set()

    async def wait_free(self) -> int:
        """Return the number of free slots once there is one."""
        while self.free < 1:
            self._freed.clear()
            await self._freed.wait()
        return self.free
