"""A value for each event loop, such as a lock or a pool of connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """A value of the running event loop: asyncio's locks and connection pools work in one loop only.

    Keeps one value: that of the loop which used it last.
    """

    def __init__(self) -> None:
        self._held: tuple[asyncio.AbstractEventLoop, T] | None = None

    def find(self) -> T | None:
        """Return the running loop's value, or None."""
        loop = asyncio.get_running_loop()
        return self._held[1] if self._held and self._held[0] is loop else None

    def get(self, make: Callable[[], T]) -> T:
        """Return the running loop's value; make it if there is none."""
        found = self.find()
        return self.put(make()) if found is None else found

    def put(self, value: T) -> T:
        """Store `value` for the running loop, and return it."""
        self._held = (asyncio.get_running_loop(), value)
        return value
