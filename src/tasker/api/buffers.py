"""How much is in memory for clients at a time: large bodies on their way in, replies that are not read yet."""

from __future__ import annotations

import asyncio

PIECE = 64 * 1024
"""Bytes that go to the server at a time; what is no larger is not counted: the kernel takes it at once, as a rule."""
PATIENCE = 1.0
"""Seconds within which nobody is cut off."""
_LOOK_EVERY = 0.05
"""Seconds between looks for room."""


class Buffers:
    """Counts what is held for all clients. Beyond `most` bytes whoever has taken the longest is cut off.

    So a client that does not read, or sends slowly, takes memory only as long as nobody else needs it. What is kept
    cannot be cut off: each owner may keep as much as is then left for others. An owner who holds more than half of all
    is cut off at once for another one.
    """

    def __init__(self, most: int) -> None:
        self.size = 0
        self._most = most
        self._of_owners: dict[str, int] = {}
        self._kept: dict[Buffer, int] = {}
        self._held: dict[Buffer, float] = {}  # what may be cut off, the oldest first
        self._cut_off: set[asyncio.Task[object]] = set()

    @property
    def is_full(self) -> bool:
        return self.size > self._most

    def open(self, owner: str = "") -> Buffer:
        """Return a buffer of the request that is answered in the current task; nothing is in it yet."""
        task = asyncio.current_task()
        assert task is not None
        return Buffer(self, task, owner)

    async def room(self) -> None:
        """Return once there is room: to be waited for before much is read from the store."""
        while self.is_full:
            self.make_room()
            if self.is_full:
                await asyncio.sleep(_LOOK_EVERY)

    def was_cut_off(self) -> bool:
        """Tell whether the current task was cancelled to make room, and take the cancellation back then. Told once."""
        task = asyncio.current_task()
        if task is None or task not in self._cut_off:
            return False
        self._cut_off.discard(task)
        task.uncancel()
        return True

    def make_room(self, owner: str = "") -> None:
        """Cut off as many as need be, for the owner's sake, as far as they have had time enough."""
        now, current = asyncio.get_running_loop().time(), asyncio.current_task()
        while self.is_full:
            greedy = next((one for one, size in self._of_owners.items() if size > self._most / 2), owner)
            first = None if greedy == owner else next((one for one in self._held if one.owner == greedy), None)
            if first is None:
                first = next((one for one in self._held if one.task is not current), None)
                if first is None or now - self._held[first] < PATIENCE:
                    return
            self.drop(first)
            self._cut_off.add(first.task)
            first.task.cancel()

    def count(self, buffer: Buffer, size: int) -> None:
        """Add to a buffer, or with a negative size take from it."""
        if not buffer.size:
            self._held[buffer] = asyncio.get_running_loop().time()
        self._resize(buffer, buffer.size + size)
        if not buffer.size:
            self._held.pop(buffer, None)

    def keep(self, buffer: Buffer) -> bool:
        """Cut off a buffer no more. False, and no change, if its owner would keep more than is left for others."""
        own = sum(size for one, size in self._kept.items() if one.owner == buffer.owner)
        left = self._most - sum(self._kept.values()) - buffer.size
        if own and own + buffer.size > left:  # one alone may be large
            return False
        self._held.pop(buffer, None)
        self._kept[buffer] = buffer.size
        return True

    def drop(self, buffer: Buffer) -> None:
        """Count a buffer no more."""
        self._held.pop(buffer, None)
        self._kept.pop(buffer, None)
        self._resize(buffer, 0)

    def _resize(self, buffer: Buffer, size: int) -> None:
        change = size - buffer.size
        buffer.size = size
        self.size += change
        of_owner = self._of_owners.get(buffer.owner, 0) + change
        if of_owner:
            self._of_owners[buffer.owner] = of_owner
        else:
            self._of_owners.pop(buffer.owner, None)


class Buffer:
    """What is held for one request. task: that which answers it, cancelled when it is cut off."""

    __slots__ = ("_all", "owner", "size", "task")

    def __init__(self, all_: Buffers, task: asyncio.Task[object], owner: str) -> None:
        self._all = all_
        self.task = task
        self.owner = owner
        self.size = 0

    def add(self, size: int) -> None:
        """Hold more; others may be cut off for it."""
        if size:
            self._all.count(self, size)
            if self._all.is_full:
                self._all.make_room(self.owner)

    def remove(self, size: int) -> None:
        """Hold less; nothing is left of a buffer that was cut off."""
        if size and self.size:
            self._all.count(self, -min(size, self.size))

    def keep(self) -> bool:
        """Be cut off no more: what it holds is on its way to the store. False if its owner keeps too much already."""
        return self._all.keep(self)

    def close(self) -> None:
        """Hold nothing."""
        self._all.drop(self)
