"""The ScheduleStore of the distributed engine."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

import asyncpg
from msgspec import structs

from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.control import TaskChanges
from tasker.engines.postgres.submit import Submits
from tasker.engines.postgres.tables import Table
from tasker.engines.postgres.transaction import Connection, Transaction
from tasker.engines.shared.tables import SCHEDULES
from tasker.engines.shared.values import (
    DUE_BYTES,
    NEWEST,
    PAGE_BYTES,
    from_cursor,
    name_taken,
    no_schedule,
    to_cursor,
    too_many,
    why_not,
)
from tasker.errors import RequestError
from tasker.model import Draft, Receipt
from tasker.model.schedules import Due, Fired, Firing, Schedule, SchedulePage, Skip
from tasker.rules.timing import resolve, settle, tick_of, with_recent

_OWNERS = 0x74696D65
"""The class of the advisory locks of owners of schedules: "time"."""


class PostgresSchedules:
    """The ScheduleStore on the tables of one schema."""

    def __init__(
        self, connections: Connections, schema: str, queries: dict[str, str],
        stores: Submits, changes: TaskChanges,
    ) -> None:  # fmt: skip
        self._connections = connections
        self._queries = queries
        self._stores = stores
        self._changes = changes
        self._table = Table(SCHEDULES, schema)

    async def create(self, schedule: Schedule, *, most: int | None = None) -> None:
        async def work(tx: Transaction) -> None:
            if most is not None and not (tx.is_retry and await self._table.find(tx, schedule.schedule_id)):
                await self._check_room(tx, schedule, most)
            if await self._table.insert(tx, schedule):
                return
            if await self._named(tx, schedule) != schedule.schedule_id:  # else an earlier try has stored it
                raise name_taken(schedule.name)

        await self._connections.transact(work)

    async def find(self, schedule_id: UUID) -> Schedule | None:
        return await self._connections.read(lambda connection: self._table.find(connection, schedule_id))

    async def find_many(
        self, *, owner: str | None = None, name: str | None = None, limit: int, cursor: str | None = None
    ) -> SchedulePage:
        before = NEWEST if cursor is None else from_cursor(cursor)
        rows: Any = await self._connections.read(
            lambda connection: connection.fetch(
                self._queries["schedules_page"], before, owner, name, limit + 1, PAGE_BYTES
            )
        )
        kept = rows[:limit]
        items = [self._table.value(tuple(row)[2:]) for row in kept]
        more = bool(kept) and kept[0]["found"] > len(kept)
        return SchedulePage(items=items, next_cursor=to_cursor(kept[-1]["seq"]) if more else None)

    async def update(self, schedule: Schedule) -> bool:
        async def work(tx: Transaction) -> bool:
            there = await self._table.find(tx, schedule.schedule_id, lock=True)
            if tx.is_retry and there == schedule:
                return True
            if there is None or there.version != schedule.version - 1:
                return False
            await self._table.update(tx, schedule)
            return True

        try:
            return await self._connections.transact(work)
        except asyncpg.UniqueViolationError as error:
            raise name_taken(schedule.name) from error

    async def delete(self, schedule_id: UUID) -> None:
        async def work(tx: Transaction) -> None:
            if not await self._table.delete(tx, schedule_id) and not tx.is_retry:
                raise no_schedule(schedule_id)

        await self._connections.transact(work)

    async def find_due(self, *, types: Collection[str], limit: int, skip: int = 0) -> Due:
        async def query(connection: Connection) -> Due:
            row = await connection.fetchrow(self._queries["schedules_now"])
            values = row["now"], list(types), limit, DUE_BYTES, skip
            due = await connection.fetch(self._queries["schedules_due"], *values)
            return Due(now=row["now"], schedules=[self._table.value(tuple(one)) for one in due], next_at=row["next_at"])

        return await self._connections.look(query)

    async def fire(self, firing: Firing) -> Fired | None:
        async def work(tx: Transaction) -> Fired | None:
            return await self._fire(tx, firing)

        return await self._connections.transact(work)

    async def trigger(self, schedule_id: UUID, draft: Draft) -> Receipt:
        async def work(tx: Transaction) -> Receipt:
            schedule = await self._table.find(tx, schedule_id, lock=True)
            if schedule is None:
                raise no_schedule(schedule_id)
            [receipt] = await self._stores.store(tx, [draft])
            if receipt.outcome == "stored" and draft.task_id not in schedule.recent:
                recent = with_recent(schedule.recent, draft.task_id)
                after = structs.replace(
                    schedule, version=schedule.version + 1, last_task_id=draft.task_id, recent=recent
                )
                await self._table.update(tx, after)
            return receipt

        return await self._connections.transact(work)

    async def _fire(self, tx: Transaction, firing: Firing) -> Fired | None:
        """Whoever fires holds the schedule's row: another process that was about to finds its next version."""
        there = await self._table.find(tx, firing.schedule.schedule_id, lock=True)
        if there is None or there.version != firing.schedule.version:
            return None
        open_tasks = await self._open_of(tx, there)
        resolution = resolve(firing, open_tasks)
        for task_id in resolution.cancel:
            with contextlib.suppress(RequestError):  # it has ended, or was erased, since it was looked at
                await self._changes.cancel(tx, task_id)
        submitted: list[Draft] = []
        for draft in resolution.drafts:
            refusal = await self._submit(tx, draft)
            if refusal is None:
                submitted.append(draft)
            else:
                skip = Skip(tick=tick_of(draft), reason="refused", detail=refusal)
                resolution = resolution._replace(skip=skip)
        after = settle(firing, resolution, open_tasks, submitted)
        await self._table.update(tx, after)
        return Fired(schedule=after, submitted=tuple(draft.task_id for draft in submitted), cancelled=resolution.cancel)

    async def _submit(self, tx: Transaction, draft: Draft) -> str | None:
        """Store the task of a tick, unless it is there; return why it is refused, if it is."""
        try:
            async with tx.savepoint():
                [receipt] = await self._stores.store(tx, [draft])
        except (RequestError, asyncpg.UniqueViolationError) as error:
            return error.detail if isinstance(error, RequestError) else "another open task has its unique_key"
        return why_not(receipt)

    async def _open_of(self, tx: Transaction, schedule: Schedule) -> Sequence[UUID]:
        """Return which of the schedule's tasks are open, oldest first."""
        if schedule.overlap == "allow" or not schedule.recent:
            return ()
        return [row["task_id"] for row in await tx.fetch(self._queries["open_of"], list(schedule.recent))]

    async def _check_room(self, tx: Transaction, schedule: Schedule, most: int) -> None:
        """Raise Conflict for an owner who has as many as there may be; one whose name is taken is told that."""
        await tx.execute(self._queries["hold_owner"], _OWNERS, schedule.owner)
        count = await tx.fetchval(self._queries["count_schedules"], schedule.owner)
        if count >= most and await self._named(tx, schedule) is None:
            raise too_many("schedules of this owner (TASKER_MAX_SCHEDULES)", most)

    async def _named(self, tx: Transaction, schedule: Schedule) -> UUID | None:
        found: UUID | None = await tx.fetchval(self._queries["schedule_by_name"], schedule.owner, schedule.name)
        return found
