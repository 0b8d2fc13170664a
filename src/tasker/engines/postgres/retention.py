"""How tasks are erased: by their clients, and when their time is over."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from tasker.engines.postgres.attachments import erase_webhooks
from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.transaction import Connection, Transaction
from tasker.model import Tombstone
from tasker.model.keeping import FOREVER, KEEP_TOMBSTONES_FOR

_STEP_SIZE = 4 << 20
"""Bytes of tasks that are erased in one transaction, but for the last."""


class Erasure:
    """What erases tasks, on the tables of one schema."""

    def __init__(self, queries: dict[str, str]) -> None:
        self._queries = queries

    async def delete(self, tx: Transaction, seq: int, task_id: UUID) -> None:
        """Erase a task for its client, with its keys."""
        await tx.execute(self._queries["bury_deleted"], [seq], KEEP_TOMBSTONES_FOR, FOREVER)
        await tx.execute(self._queries["delete_keys"], task_id)
        await self._erase(tx, [seq], [task_id])

    async def prune(self, tx: Transaction, until: datetime, limit: int) -> int:
        """Do one step of what is past its time at `until`; return how many rows are gone."""
        done = 0
        for query in ("prune_keys", "prune_tombstones"):
            done += _count(await tx.execute(self._queries[query], limit, until))
        rows = await tx.fetch(self._queries["past_their_time"], limit, until)
        if not rows:
            return done
        rows = _first(rows)
        seqs = [row["seq"] for row in rows]
        words = _count(await tx.execute(self._queries["delete_some_events"], seqs, 10 * limit))
        if words == 10 * limit:  # there may be more of them: the tasks go in another step
            return done + words
        await tx.execute(self._queries["bury"], seqs, KEEP_TOMBSTONES_FOR)
        task_ids = [row["task_id"] for row in rows]
        await tx.execute(self._queries["outlive_tasks"], task_ids)
        await self._erase(tx, seqs, task_ids)
        return done + len(seqs)

    async def find_tombstone(self, connection: Connection, task_id: UUID) -> Tombstone | None:
        """Return that of a task that has expired, erased or not yet."""
        row = await connection.fetchrow(self._queries["when_expired"], [task_id])
        return None if row is None else Tombstone(task_id=task_id, owner=row["owner"], expired_at=row["expired_at"])

    async def buried(self, connection: Connection, task_ids: Sequence[UUID]) -> set[UUID]:
        """Return those that were erased here."""
        return {row["task_id"] for row in await connection.fetch(self._queries["buried"], task_ids)}

    async def _erase(self, tx: Transaction, seqs: Sequence[int], task_ids: Sequence[UUID]) -> None:
        """Erase tasks with all that belongs to them but their idempotency keys: the one place that knows what does."""
        await tx.execute(self._queries["erase_tasks"], seqs)
        await tx.execute(self._queries["delete_task_secrets"], task_ids)
        await erase_webhooks(tx, self._queries, task_ids)


class PostgresTombstones:
    """The Tombstones on the tables of one schema."""

    def __init__(self, connections: Connections, erasure: Erasure) -> None:
        self._connections = connections
        self._erasure = erasure

    async def find(self, task_id: UUID) -> Tombstone | None:
        return await self._connections.read(lambda connection: self._erasure.find_tombstone(connection, task_id))


def _first(rows: Sequence[Connection]) -> Sequence[Connection]:
    """Return the first rows, up to the one with which they are large enough for one step."""
    size = 0
    for place, row in enumerate(rows, start=1):
        size += row["size"]
        if size > _STEP_SIZE:
            return rows[:place]
    return rows


def _count(status: str) -> int:
    """Return how many rows a statement has changed."""
    return int(status.split()[-1])
