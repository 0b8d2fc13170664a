"""Slots for checks of params. Owners with slow checks share half of the slots, so that others get a free one."""

from __future__ import annotations

import asyncio

SLOW_FOR = 60.0
"""Seconds for which an owner counts as slow after a slow check."""
_MOST_SLOW = 1_000
"""Owners that are remembered as slow."""


class Places:
    """`count` slots, at most one per owner, given in order of request to owners that may have one."""

    def __init__(self, count: int, *, slow_for: float = SLOW_FOR) -> None:
        self._count = count
        self._slow_for = slow_for
        self._taken: set[str] = set()
        self._waiting: dict[asyncio.Future[None], str] = {}
        self._slow: dict[str, float] = {}

    async def take(self, owner: str) -> None:
        """Wait for a slot for an owner that has none."""
        if self._is_free_for(owner):  # no waiter may have this slot: `give_back` would have given it
            self._taken.add(owner)
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting[place] = owner
        try:
            await place
        except BaseException:
            if self._waiting.pop(place, None) is None:
                self.give_back(owner)
            raise

    def give_back(self, owner: str) -> None:
        """Free the owner's slot for the first waiter that may have it."""
        self._taken.discard(owner)
        for place, waiting in list(self._waiting.items()):
            if not place.done() and self._is_free_for(waiting):  # done: its waiter has just been cancelled
                del self._waiting[place]
                self._taken.add(waiting)
                place.set_result(None)

    def note_slow(self, owner: str) -> None:
        """Remember for SLOW_FOR seconds that a check of the owner takes long."""
        self._slow.pop(owner, None)
        self._slow[owner] = asyncio.get_running_loop().time() + self._slow_for
        if len(self._slow) > _MOST_SLOW:
            del self._slow[next(iter(self._slow))]

    def _is_free_for(self, owner: str) -> bool:
        if len(self._taken) >= self._count:
            return False
        return not self._is_slow(owner) or sum(map(self._is_slow, self._taken)) < self._count // 2

    def _is_slow(self, owner: str) -> bool:
        until = self._slow.get(owner)
        return until is not None and asyncio.get_running_loop().time() < until
