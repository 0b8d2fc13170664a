"""The ScheduleStore of the distributed engine."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Protocol, TypeVar
from uuid import UUID

import asyncpg
from msgspec import structs

from tasker.engines.postgres.changes import Changes
from tasker.engines.postgres.connections import Connection, Connections
from tasker.engines.postgres.notices import News
from tasker.engines.postgres.submit import Submits
from tasker.engines.postgres.tables import Table
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

T = TypeVar("T")
_OWNERS = 0x74696D65
"""The class of the advisory locks of owners of schedules: "time"."""


class Transact(Protocol):
    """Runs work(connection, news, again) in a transaction, then tells its news."""

    async def __call__(self, work: Callable[[Connection, News, bool], Awaitable[T]], /) -> T: ...


class PostgresSchedules:
    """The ScheduleStore on the tables of one schema."""

    def __init__(
        self, connections: Connections, transact: Transact, schema: str, queries: dict[str, str],
        stores: Submits, changes: Changes,
    ) -> None:  # fmt: skip
        self._connections = connections
        self._transact = transact
        self._queries = queries
        self._stores = stores
        self._changes = changes
        self._table = Table(SCHEDULES, schema)

    async def create(self, schedule: Schedule, *, most: int | None = None) -> None:
        async def work(connection: Connection, _news: News, again: bool) -> None:
            if most is not None and not (again and await self._table.find(connection, schedule.schedule_id)):
                await self._check_room(connection, schedule, most)
            if await self._table.insert(connection, schedule):
                return
            if await self._named(connection, schedule) != schedule.schedule_id:  # else an earlier try has stored it
                raise name_taken(schedule.name)

        await self._transact(work)

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
        async def work(connection: Connection, _news: News, again: bool) -> bool:
            there = await self._table.find(connection, schedule.schedule_id, lock=True)
            if again and there == schedule:
                return True
            if there is None or there.version != schedule.version - 1:
                return False
            await self._table.update(connection, schedule)
            return True

        try:
            return await self._transact(work)
        except asyncpg.UniqueViolationError as error:
            raise name_taken(schedule.name) from error

    async def delete(self, schedule_id: UUID) -> None:
        async def work(connection: Connection, _news: News, again: bool) -> None:
            if not await self._table.delete(connection, schedule_id) and not again:
                raise no_schedule(schedule_id)

        await self._transact(work)

    async def find_due(self, *, types: Collection[str], limit: int, skip: int = 0) -> Due:
        async def query(connection: Connection) -> Due:
            row = await connection.fetchrow(self._queries["schedules_now"])
            values = row["now"], list(types), limit, DUE_BYTES, skip
            due = await connection.fetch(self._queries["schedules_due"], *values)
            return Due(now=row["now"], schedules=[self._table.value(tuple(one)) for one in due], next_at=row["next_at"])

        return await self._connections.look(query)

    async def fire(self, firing: Firing) -> Fired | None:
        async def work(connection: Connection, news: News, _again: bool) -> Fired | None:
            return await self._fire(connection, news, firing)

        return await self._transact(work)

    async def trigger(self, schedule_id: UUID, draft: Draft) -> Receipt:
        async def work(connection: Connection, news: News, _again: bool) -> Receipt:
            schedule = await self._table.find(connection, schedule_id, lock=True)
            if schedule is None:
                raise no_schedule(schedule_id)
            [receipt] = await self._stores.store(connection, news, [draft])
            if receipt.outcome == "stored" and draft.task_id not in schedule.recent:
                recent = with_recent(schedule.recent, draft.task_id)
                after = structs.replace(
                    schedule, version=schedule.version + 1, last_task_id=draft.task_id, recent=recent
                )
                await self._table.update(connection, after)
            return receipt

        return await self._transact(work)

    async def _fire(self, connection: Connection, news: News, firing: Firing) -> Fired | None:
        """Whoever fires holds the schedule's row: another process that was about to finds its next version."""
        there = await self._table.find(connection, firing.schedule.schedule_id, lock=True)
        if there is None or there.version != firing.schedule.version:
            return None
        open_tasks = await self._open_of(connection, there)
        resolution = resolve(firing, open_tasks)
        for task_id in resolution.cancel:
            with contextlib.suppress(RequestError):  # it has ended, or was erased, since it was looked at
                await self._changes.cancel(connection, news, task_id, False)
        submitted: list[Draft] = []
        for draft in resolution.drafts:
            refusal = await self._submit(connection, news, draft)
            if refusal is None:
                submitted.append(draft)
            else:
                skip = Skip(tick=tick_of(draft), reason="refused", detail=refusal)
                resolution = resolution._replace(skip=skip)
        after = settle(firing, resolution, open_tasks, submitted)
        await self._table.update(connection, after)
        return Fired(schedule=after, submitted=tuple(draft.task_id for draft in submitted), cancelled=resolution.cancel)

    async def _submit(self, connection: Connection, news: News, draft: Draft) -> str | None:
        """Store the task of a tick, unless it is there; return why it is refused, if it is."""
        await connection.execute("SAVEPOINT draft")
        notes, changes, lines = len(news.notes), len(news.changes), set(news.lines)
        try:
            [receipt] = await self._stores.store(connection, news, [draft])
        except (RequestError, asyncpg.UniqueViolationError) as error:
            await connection.execute("ROLLBACK TO SAVEPOINT draft")
            del news.notes[notes:], news.changes[changes:]  # it did not happen
            news.lines = lines
            return error.detail if isinstance(error, RequestError) else "another open task has its unique_key"
        return why_not(receipt)

    async def _open_of(self, connection: Connection, schedule: Schedule) -> Sequence[UUID]:
        """Return which of the schedule's tasks are open, oldest first."""
        if schedule.overlap == "allow" or not schedule.recent:
            return ()
        return [row["task_id"] for row in await connection.fetch(self._queries["open_of"], list(schedule.recent))]

    async def _check_room(self, connection: Connection, schedule: Schedule, most: int) -> None:
        """Raise Conflict for an owner who has as many as there may be; one whose name is taken is told that."""
        await connection.execute(self._queries["hold_owner"], _OWNERS, schedule.owner)
        count = await connection.fetchval(self._queries["count_schedules"], schedule.owner)
        if count >= most and await self._named(connection, schedule) is None:
            raise too_many("schedules of this owner (TASKER_MAX_SCHEDULES)", most)

    async def _named(self, connection: Connection, schedule: Schedule) -> UUID | None:
        found: UUID | None = await connection.fetchval(self._queries["schedule_by_name"], schedule.owner, schedule.name)
        return found
