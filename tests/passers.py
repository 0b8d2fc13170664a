"""Check that other coroutines run between pieces of work."""

from __future__ import annotations

import asyncio
from typing import Any


class Passers:
    """Another coroutine on the loop, as a context; call `begin` when a piece of work begins."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.most_at_once = 0
        self._at_once = 0

    async def __aenter__(self) -> Passers:
        self._passing = asyncio.create_task(self._pass())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._passing.cancel()
        await asyncio.wait([self._passing])

    def begin(self, piece: Any = None) -> None:
        """Note a piece of work. most_at_once: the most pieces in a row without a run of the other coroutine."""
        self.begun.append(piece)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)

    async def _pass(self) -> None:
        while True:
            self._at_once = 0
            await asyncio.sleep(0)
