"""A bound on what is held in memory for clients: large bodies while they arrive, replies until they are read."""

from __future__ import annotations

import asyncio

PIECE = 64 * 1024
"""Bytes sent to the server at a time. Smaller replies are not counted: as a rule the kernel takes them at once."""
PATIENCE = 1.0
"""Age in seconds up to which a request is not cut off, unless its owner is greedy (see Buffers)."""
_LOOK_EVERY = 0.05
"""Seconds between checks for free memory."""


class Buffers:
    """Counts what is held for all clients. Beyond `most` bytes the oldest request is cut off.

    So a client that does not read, or sends slowly, takes memory only while no other needs it. Kept buffers cannot be
    cut off: an owner may keep as much as then remains for others. A request of an owner who holds more than half of
    all is cut off at once when another owner needs room.
    """

    def __init__(self, most: int) -> None:
        self.size = 0
        self._most = most
        self._of_owners: dict[str, int] = {}
        self._kept: dict[Buffer, int] = {}
        self._held: dict[Buffer, float] = {}  # buffers that may be cut off, the oldest first
        self._cut_off: set[asyncio.Task[object]] = set()

    @property
    def is_full(self) -> bool:
        return self.size > self._most

    def open(self, owner: str = "") -> Buffer:
        """Return an empty buffer of the request that the current task answers."""
        task = asyncio.current_task()
        assert task is not None
        return Buffer(self, task, owner)

    async def room(self) -> None:
        """Wait until less than the limit is held; call it before reading much from the store."""
        while self.is_full:
            self.make_room()
            if self.is_full:
                await asyncio.sleep(_LOOK_EVERY)

    def was_cut_off(self) -> bool:
        """Tell, once, whether the current task was cancelled to free memory; if so, undo the cancellation."""
        task = asyncio.current_task() if self._cut_off else None
        if task is None or task not in self._cut_off:
            return False
        self._cut_off.discard(task)
        task.uncancel()
        return True

    def make_room(self, owner: str = "") -> None:
        """Cut off requests to free memory for the owner: of a greedy owner at once, others once older than PATIENCE."""
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
        """Add to a buffer, or with a negative size remove from it."""
        if not buffer.size:
            self._held[buffer] = asyncio.get_running_loop().time()
        self._resize(buffer, buffer.size + size)
        if not buffer.size:
            self._held.pop(buffer, None)

    def keep(self, buffer: Buffer) -> bool:
        """Protect a buffer from being cut off. Return False if its owner would keep more than remains for others."""
        own = sum(size for one, size in self._kept.items() if one.owner == buffer.owner)
        left = self._most - sum(self._kept.values()) - buffer.size
        if own and own + buffer.size > left:  # one alone may be large
            return False
        self._held.pop(buffer, None)
        self._kept[buffer] = buffer.size
        return True

    def drop(self, buffer: Buffer) -> None:
        """Stop counting a buffer."""
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
    """What is held for one request. task: the one that answers it; it is cancelled to cut the request off."""

    __slots__ = ("_all", "owner", "size", "task")

    def __init__(self, all_: Buffers, task: asyncio.Task[object], owner: str) -> None:
        self._all = all_
        self.task = task
        self.owner = owner
        self.size = 0

    def add(self, size: int) -> None:
        """Hold more; this may cut off other requests."""
        if size:
            self._all.count(self, size)
            if self._all.is_full:
                self._all.make_room(self.owner)

    def remove(self, size: int) -> None:
        """Hold less; a no-op once the buffer was cut off."""
        if size and self.size:
            self._all.count(self, -min(size, self.size))

    def keep(self) -> bool:
        """Do not cut it off while its content is stored. Return False if its owner keeps too much already."""
        return self._all.keep(self)

    def close(self) -> None:
        """Hold nothing."""
        self._all.drop(self)
