"""Limits on waiting tasks: the number of pending tasks, and the queues in which an owner has open tasks.

Queues are limited because clients choose their names, and each open queue makes every claim a little slower.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import TypeVar

from msgspec import structs

from tasker.clock import Clock
from tasker.engines.protocol import QueueStore
from tasker.errors import Conflict, Unavailable
from tasker.model import Draft, PartitionStats

DEFAULT_LIMIT = 1000
"""Limit of the queues in which an owner has open tasks."""
_COUNT_EVERY = 1.0
"""Seconds between counts of pending tasks; tasks that this process submits meanwhile are added to the last count."""
_RETRY_AFTER = timedelta(seconds=10)
_KNOWN_FOR = 1.0
"""Seconds for which an answer of a shared store is used: other processes open queues meanwhile."""
_PATIENCE = 10
"""At the limit, the store is asked again only after this multiple of the time that its last answer took."""

OwnerQueue = tuple[str, str]
"""An owner and a queue."""
T = TypeVar("T")


class Admission:
    """Refuses submissions while too many tasks are pending, in all queues together.

    stats: returns all open tasks by queue and type. limit: pending tasks allowed; None for any number, which costs
    nothing.
    """

    def __init__(self, stats: Callable[[], Awaitable[list[PartitionStats]]], clock: Clock, limit: int | None) -> None:
        self._stats = stats
        self._clock = clock
        self._limit = limit
        self._pending = 0
        self._counted_at: float | None = None
        self._counting = asyncio.Lock()

    async def check(self, number: int) -> None:
        """Admit `number` more tasks. Raises Unavailable ("queue-full")."""
        if self._limit is None:
            return
        if self._is_stale():
            async with self._counting:
                if self._is_stale():
                    await self._count()
        if self._pending + number > self._limit:
            raise Unavailable(
                f"the limit of {self._limit:,} pending tasks is reached (TASKER_MAX_PENDING)",
                name="queue-full",
                retry_after=_RETRY_AFTER,
            )
        self._pending += number

    def _is_stale(self) -> bool:
        return self._counted_at is None or self._clock.monotonic() - self._counted_at >= _COUNT_EVERY

    async def _count(self) -> None:
        self._pending = sum(partition.pending + partition.scheduled for partition in await self._stats())
        self._counted_at = self._clock.monotonic()


class _Known:
    """The known queues of one owner: all open ones, and some that are no longer open.

    queues: the number of submissions under way, by queue. left: queues whose submissions ended while the store was
    being asked.
    """

    def __init__(self) -> None:
        self.queues: dict[str, int] = {}
        self.left: set[str] = set()
        self.asked_at: float | None = None
        self.ask_again_at = 0.0
        self.lock = asyncio.Lock()


class OpenQueues:
    """Limits the queues in which an owner has open tasks.

    Use `let_in` around storing drafts, or call `bound` or `enter` before and `leave` after.

    A known queue needs only a lookup in memory; the store is asked about other queues. Within one process the limit is
    exact. Processes that share a store (is_shared) may together exceed it by the queues that each admits between two
    answers of the store.
    """

    def __init__(self, store: QueueStore, clock: Clock, limit: int = DEFAULT_LIMIT, *, is_shared: bool = False) -> None:
        self._store = store
        self._clock = clock
        self._limit = limit
        self._is_shared = is_shared
        self._known: dict[str, _Known] = {}

    async def let_in(self, drafts: Iterable[Draft], store: Callable[[list[Draft]], Awaitable[T]]) -> T:
        """Call `store` with the drafts, count them while it runs, and return what it returns.

        A draft beyond the limit gets a refusal: it is not stored, but an earlier task may still answer for it. A draft
        that has another refusal already opens no queue and is not counted.
        """
        entered: list[OwnerQueue] = []
        try:
            return await store(await self.bound(drafts, entered))
        finally:
            self.leave(entered)

    async def bound(self, drafts: Iterable[Draft], entered: list[OwnerQueue]) -> list[Draft]:
        """Return the drafts as `let_in` stores them; add to `entered` what to `leave` afterwards, also after errors."""
        bound: list[Draft] = []
        for draft in drafts:
            if draft.refusal is None:
                try:
                    if not self._enter_known(draft.owner, draft.queue):
                        await self.enter(draft.owner, draft.queue)
                    entered.append((draft.owner, draft.queue))
                except Conflict as refusal:
                    bound.append(structs.replace(draft, refusal=refusal))
                    continue
            bound.append(draft)
        return bound

    async def enter(self, owner: str, queue: str) -> None:
        """Count an open task of this queue in. Raises Conflict ("limit-reached")."""
        if self._enter_known(owner, queue):
            return
        known = self._known.setdefault(owner, _Known())
        async with known.lock:
            count = await self._check(known, owner, queue)
        known.queues[queue] = count + 1

    def _enter_known(self, owner: str, queue: str) -> bool:
        """Do what `enter` does if the queue is known, else return False."""
        known = self._known.get(owner)
        if known is None or queue not in known.queues:
            return False
        known.queues[queue] += 1
        return True

    def leave(self, entered: Iterable[OwnerQueue]) -> None:
        """End what `enter` began, once for each call, whether or not the task was stored."""
        for owner, queue in entered:
            known = self._known.get(owner)
            if known is not None and known.queues.get(queue):
                known.queues[queue] -= 1
                if known.lock.locked():
                    known.left.add(queue)

    async def _check(self, known: _Known, owner: str, queue: str) -> int:
        """Return how many submissions of the queue are under way. Raises Conflict if the queue exceeds the limit."""
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
        return self._is_shared and now - known.asked_at >= _KNOWN_FOR

    async def _ask(self, known: _Known, owner: str) -> None:
        """Ask the store for open queues: of all owners if these are below the limit (faster), else of this owner."""
        known.left.clear()
        begun = self._clock.monotonic()
        found = await self._store.find_names(limit=self._limit + 1)
        if len(found) >= self._limit:
            found = await self._store.find_open(owner)
        under_way = {queue: count for queue, count in known.queues.items() if count or queue in known.left}
        known.queues = dict.fromkeys(found, 0) | under_way
        known.asked_at = self._clock.monotonic()
        known.ask_again_at = known.asked_at + _PATIENCE * (known.asked_at - begun)
