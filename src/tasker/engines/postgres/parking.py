"""Parked tasks wait for a free slot of their concurrency key, and are then queued again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from tasker.engines.postgres.jobs import queued_task
from tasker.engines.postgres.limits import Limits, settings_of
from tasker.engines.postgres.partitions import any_partition
from tasker.engines.postgres.transaction import Freed, Transaction
from tasker.model.queues import Slot


class Parking:
    """The parked tasks, on the tables of one schema."""

    def __init__(self, queries: dict[str, str], limits: Limits) -> None:
        self._queries = queries
        self._limits = limits

    async def freed(self, tx: Transaction, ended: Sequence[Freed]) -> None:
        """Let other tasks use the slots of ended attempts."""
        if self._limits.known:
            tx.partitions.update(any_partition(queue) for queue, _, _ in ended if self._has_slots(queue))
        keyed = [(queue, owner, key) for queue, owner, key in ended if key is not None]
        if keyed:
            # A claim that counted the ended attempt as running locks these rows until its parked tasks are stored.
            held = await tx.fetch(self._queries["hold_queues"], sorted({queue for queue, _, _ in keyed}))
            limited = {row["name"]: settings_of(row) for row in held if row["concurrency_per_key"] is not None}
            slots = [limited[queue].slot(owner, key) for queue, owner, key in keyed if queue in limited]
            await self._unpark(tx, Counter(slots))

    async def not_started(self, tx: Transaction, task_ids: Sequence[UUID]) -> None:
        """Unpark other tasks for the slots of tasks that a claim took but could not start."""
        if self._limits.known:
            await self.left(tx, await tx.fetch(self._queries["keys_of"], task_ids))

    async def left(self, tx: Transaction, rows: Sequence[Any]) -> None:
        """Unpark tasks for the slots of ended pending tasks, given as rows with queue, owner and concurrency_key."""
        keyed = [row for row in rows if row["concurrency_key"] is not None]
        if not keyed:
            return
        # Read from the table: a process that claims nothing has not loaded the settings.
        names = list({row["queue"] for row in keyed})
        sharing = {row["name"] for row in await tx.fetch(self._queries["sharing_queues"], names)}
        slots = (
            Slot(row["queue"], None if row["queue"] in sharing else row["owner"], row["concurrency_key"])
            for row in keyed
        )
        await self._unpark(tx, Counter(slots))

    async def unpark_many(self, tx: Transaction, limit: int, queue: str | None = None) -> int:
        """Queue about `limit` parked tasks whose keys have free slots; return how many."""
        rows = await tx.fetch(self._queries["parked_with_slots"], queue, limit)
        slots: dict[Slot, int] = {}
        left = limit
        for row in rows:
            if row["free"] > 0 and left > 0:
                slots[Slot(row["queue"], row["owner"], row["concurrency_key"])] = min(row["free"], left)
                left -= min(row["free"], left)
        return await self._unpark(tx, slots)

    def _has_slots(self, queue: str) -> bool:
        settings = self._limits.known.get(queue)
        return settings is not None and settings.concurrency is not None

    async def _unpark(self, tx: Transaction, slots: Mapping[Slot, int]) -> int:
        """Queue the first parked tasks, up to the given number for each slot; return how many."""
        rows: list[Any] = []
        shared = [(slot.queue, slot.key, free) for slot, free in slots.items() if slot.owner is None]
        own = [(*slot, free) for slot, free in slots.items() if slot.owner is not None]
        for query, values in (("unpark", shared), ("unpark_own", own)):
            if values:
                columns = (list(column) for column in zip(*values, strict=True))
                rows += await tx.fetch(self._queries[query], *columns)
        tasks = [queued_task(row, has_settings=True) for row in rows]
        if tasks:
            partitions = [task.partition for task in tasks]
            await tx.execute(self._queries["move_jobs"], [str(task.task_id) for task in tasks], partitions)
            tx.partitions.update(partitions)
        return len(tasks)
