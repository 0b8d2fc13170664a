"""How many queues an owner may have open tasks in: clients name queues, and each of them costs every claim a little."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from msgspec import structs

from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.errors import Conflict
from tasker.model import Draft

DEFAULT_LIMIT = 1000
_KNOWN_FOR = 1.0
"""Seconds that what the store said stands: where it is shared, others open queues meanwhile."""
_PATIENCE = 10
"""An owner who has reached the limit has the store asked again after so many times as long as the answer took."""

Line = tuple[str, str]
"""An owner and a queue."""
T = TypeVar("T")


class _Known:
    """The queues of one owner: all that are open, and some that no longer are. Counted are submissions under way."""

    def __init__(self) -> None:
        self.queues: dict[str, int] = {}
        self.left: set[str] = set()
        self.asked_at: float | None = None
        self.ask_again_at = 0.0
        self.lock = asyncio.Lock()


class OpenQueues:
    """Lets submissions in: `let_in` all the time that they are stored, or `enter` before and `leave` after it.

    A queue that is known costs a look into memory; only for another one is the store asked. In one process the limit
    is kept exactly. Processes that share a store may each let in, in the second between two looks, as many as were
    missing to the limit.
    """

    def __init__(self, engine: Engine, clock: Clock, limit: int = DEFAULT_LIMIT) -> None:
        self._engine = engine
        self._clock = clock
        self._limit = limit
        self._known: dict[str, _Known] = {}

    async def let_in(self, drafts: Iterable[Draft], store: Callable[[list[Draft]], Awaitable[T]]) -> T:
        """Let drafts in while `store` stores them, and return what it returns.

        One beyond the limit is not stored: only an earlier task may answer for it. One that is refused for another
        reason opens no queue, and does not enter.
        """
        bound: list[Draft] = []
        entered: list[Line] = []
        try:
            for draft in drafts:
                if draft.refusal is None:
                    try:
                        await self.enter(draft.owner, draft.queue)
                        entered.append((draft.owner, draft.queue))
                    except Conflict as refusal:
                        bound.append(structs.replace(draft, refusal=refusal))
                        continue
                bound.append(draft)
            return await store(bound)
        finally:
            self.leave(entered)

    async def enter(self, owner: str, queue: str) -> None:
        """Let an open task of this queue in. Raises Conflict ("limit-reached")."""
        known = self._known.get(owner)
        if known is None:
            known = self._known[owner] = _Known()
        count = known.queues.get(queue)
        if count is None:
            async with known.lock:
                count = await self._find_room(known, owner, queue)
        known.queues[queue] = count + 1

    def leave(self, lines: Iterable[Line]) -> None:
        """Tell that what was let in is stored, or is not: once for each time."""
        for owner, queue in lines:
            known = self._known.get(owner)
            if known is not None and known.queues.get(queue):
                known.queues[queue] -= 1
                if known.lock.locked():
                    known.left.add(queue)

    async def _find_room(self, known: _Known, owner: str, queue: str) -> int:
        """Return how many submissions of the queue are under way; there is room for one more."""
        if queue not in known.queues and self._must_ask(known):
            await self._ask(known, owner)
        count = known.queues.get(queue)
        if count is None and len(known.queues) >= self._limit:
            raise Conflict(
                f"there are open tasks in {len(known.queues):,} queues, and an owner may have {self._limit:,}"
                " (TASKER_MAX_QUEUES): name one of these, or wait until one is empty",
                name="limit-reached",
            )
        return count or 0

    def _must_ask(self, known: _Known) -> bool:
        now = self._clock.monotonic()
        if known.asked_at is None:
            return True
        if len(known.queues) >= self._limit:
            return now >= known.ask_again_at
        return self._engine.is_shared and now - known.asked_at >= _KNOWN_FOR

    async def _ask(self, known: _Known, owner: str) -> None:
        """Learn which queues are open. Where they are few in all it does not matter whose they are."""
        known.left.clear()
        begun = self._clock.monotonic()
        found = await self._engine.queues.find_names(limit=self._limit + 1)
        if len(found) >= self._limit:
            found = await self._engine.queues.find_open(owner)
        under_way = {queue: count for queue, count in known.queues.items() if count or queue in known.left}
        known.queues = dict.fromkeys(found, 0) | under_way
        known.asked_at = self._clock.monotonic()
        known.ask_again_at = known.asked_at + _PATIENCE * (known.asked_at - begun)
