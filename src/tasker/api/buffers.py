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

    So a client that does not read, or sends slowly, takes memory only as long as nobody else needs it.
    """

    def __init__(self, most: int) -> None:
        self.size = 0
        self._most = most
        self._held: dict[Buffer, float] = {}  # what may be cut off, the oldest first
        self._cut_off: set[asyncio.Task[object]] = set()

    @property
    def is_full(self) -> bool:
        return self.size > self._most

    def open(self) -> Buffer:
        """Return a buffer of the request that is answered in the current task; nothing is in it yet."""
        task = asyncio.current_task()
        assert task is not None
        return Buffer(self, task)

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

    def make_room(self) -> None:
        """Cut off as many as need be, as far as they have had time enough."""
        now, current = asyncio.get_running_loop().time(), asyncio.current_task()
        while self.is_full:
            oldest = next((one for one in self._held if one.task is not current), None)
            if oldest is None or now - self._held[oldest] < PATIENCE:
                return
            self.drop(oldest)
            self._cut_off.add(oldest.task)
            oldest.task.cancel()

    def count(self, buffer: Buffer, size: int) -> None:
        """Add to a buffer, or with a negative size take from it."""
        if not buffer.size:
            self._held[buffer] = asyncio.get_running_loop().time()
        buffer.size += size
        self.size += size
        if not buffer.size:
            self._held.pop(buffer, None)

    def keep(self, buffer: Buffer) -> None:
        """Cut off a buffer no more."""
        self._held.pop(buffer, None)

    def drop(self, buffer: Buffer) -> None:
        """Count a buffer no more."""
        self._held.pop(buffer, None)
        self.size -= buffer.size
        buffer.size = 0


class Buffer:
    """What is held for one request. task: that which answers it, cancelled when it is cut off."""

    __slots__ = ("_all", "size", "task")

    def __init__(self, all_: Buffers, task: asyncio.Task[object]) -> None:
        self._all = all_
        self.task = task
        self.size = 0

    def add(self, size: int) -> None:
        """Hold more; others may be cut off for it."""
        if size:
            self._all.count(self, size)
            if self._all.is_full:
                self._all.make_room()

    def remove(self, size: int) -> None:
        """Hold less; nothing is left of a buffer that was cut off."""
        if size and self.size:
            self._all.count(self, -min(size, self.size))

    def keep(self) -> None:
        """Be cut off no more: what it holds is on its way to the store."""
        self._all.keep(self)

    def close(self) -> None:
        """Hold nothing."""
        self._all.drop(self)
