"""The QueueStore of the distributed engine: settings of queues, open queues, positions of tasks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.limits import Limits, settings_of, tokens_in
from tasker.engines.postgres.parking import Parking
from tasker.engines.postgres.partitions import any_partition, level_of, partitions_of
from tasker.engines.postgres.transaction import Connection, Transaction
from tasker.engines.shared.refusals import too_many
from tasker.engines.shared.values import encode
from tasker.model.queues import MOST_BEFORE, Place, QueueChange, QueueSettings, QueueState, tokens_after

_SETTINGS = 0x71756575
"""The class of the advisory lock of the settings of queues: "queu"."""
_UNPARK = 1000
"""Parked tasks that are queued with a change of settings; the others with the sweeps that follow."""


@dataclass
class PostgresQueues:
    """The queues, on the tables of one schema."""

    _connections: Connections
    _queries: dict[str, str]
    _limits: Limits
    _parking: Parking

    async def find_all(self, names: Collection[str] | None = None) -> list[QueueState]:
        rows = await self._fetch("queues", None if names is None else list(names))
        found = [(row, settings_of(row)) for row in rows]
        return [QueueState(settings=one, running=row["running"], tokens=tokens_in(one, row)) for row, one in found]

    async def find_names(self, *, after: str | None = None, limit: int) -> list[str]:
        return [row["name"] for row in await self._fetch("queue_names", after or "", limit)]

    async def find_open(self, owner: str) -> list[str]:
        asked = ("open_queues_of", owner) if owner else ("open_queues_of_nobody",)
        return [row["queue"] for row in await self._fetch(*asked)]

    async def find_place(self, task_id: UUID, owner: str | None = None) -> Place | None:
        return await self._connections.read(lambda connection: self._find_place(connection, task_id, owner))

    async def find_run_time(self, task_id: UUID) -> timedelta | None:
        [(seconds,)] = await self._fetch("run_time", task_id)
        return None if seconds is None else timedelta(seconds=seconds)

    async def change(self, name: str, change: QueueChange, *, most: int | None = None) -> QueueSettings:
        return await self._connections.transact(lambda tx: self._change(tx, name, change, most))

    async def _fetch(self, query: str, *values: Any) -> list[asyncpg.Record]:
        return await self._connections.read(lambda connection: connection.fetch(self._queries[query], *values))

    async def _find_place(self, connection: Connection, task_id: UUID, owner: str | None) -> Place | None:
        """Return the position of a due task in its queue, among an owner's tasks if given."""
        row = await connection.fetchrow(self._queries["place_of"], task_id, str(task_id))
        if row is None:
            return None
        priority = row["priority"]
        if owner is None:
            own = await self._partitions(connection, row["queue"])
            before = await connection.fetchval(self._queries["jobs_before"], own, priority, row["id"], MOST_BEFORE)
        else:
            place = row["queue"], priority, row["due_at"], row["seq"]
            before = await connection.fetchval(self._queries["own_before"], owner, *place, MOST_BEFORE)
        return Place(before=before, weight=row["weight"], key_running=row["key_running"])

    async def _change(self, tx: Transaction, name: str, change: QueueChange, most: int | None) -> QueueSettings:
        """Change the settings of a queue; a retry sets the same again. Raises Conflict if `most` others have some."""
        await tx.execute(self._queries["new_queue"], name)
        row = await tx.fetchrow(self._queries["hold_queues"], [name])
        old = settings_of(row)
        new = change.apply(old)
        is_one_more = old.is_plain and not new.is_plain
        if most is not None and is_one_more:
            await tx.execute(self._queries["hold_owner"], _SETTINGS, "")
            if await tx.fetchval(self._queries["count_other_queues"], name) >= most:
                raise too_many("queues with settings (TASKER_MAX_QUEUES)", most)
        await self._store(tx, new, tokens_after(old, new, tokens_in(old, row)))
        if is_one_more:
            partitions = await self._partitions(tx, name)
            await self._limits.lift(tx, [partition for partition in partitions if not level_of(partition)])
        if not new.counts_as(old):
            await self._parking.unpark_many(tx, _UNPARK, name)
        tx.partitions[any_partition(name)] += 1
        return new

    async def _store(self, tx: Transaction, new: QueueSettings, tokens: float) -> None:
        if new.is_plain:
            await tx.execute(self._queries["delete_queue"], new.name)
            return
        rate = None if new.rate is None else encode(new.rate)
        limits = new.concurrency, new.concurrency_per_key
        pause = None if new.pause is None else encode(new.pause)
        await tx.execute(
            self._queries["set_queue"], new.name, new.paused, *limits, rate, tokens, new.shared_keys, pause
        )

    async def _partitions(self, connection: Connection | Transaction, queue: str) -> list[str]:
        types = await connection.fetch(self._queries["types_in_queue"], queue)
        return [partition for one in types for partition in partitions_of(queue, one["type"])]
