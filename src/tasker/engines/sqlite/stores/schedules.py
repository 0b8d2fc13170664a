"""The ScheduleStore of the embedded engine."""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import apsw
from msgspec import structs

from tasker.clock import Clock, from_micros, to_micros
from tasker.engines.shared.tables import SCHEDULES
from tasker.engines.shared.values import (
    DUE_BYTES,
    NEWEST,
    PAGE_BYTES,
    draft_size,
    from_cursor,
    name_taken,
    no_schedule,
    to_cursor,
    too_many,
    why_not,
)
from tasker.engines.sqlite import changes
from tasker.engines.sqlite.claim import Lines
from tasker.engines.sqlite.rows import task_id_of
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.tables import Table
from tasker.errors import RequestError
from tasker.model import Change, Draft, Receipt
from tasker.model.schedules import Due, Fired, Firing, Schedule, SchedulePage, Skip
from tasker.rules.timing import resolve, settle, tick_of, with_recent

_table = Table(SCHEDULES)


Run = Callable[[Callable[[apsw.Connection], Any]], Awaitable[Any]]


class Write(Protocol):
    """Does work in a transaction; size: the bytes that it writes."""

    def __call__(self, work: Callable[[apsw.Connection], Any], /, size: int = 0) -> Awaitable[Any]: ...


class SqliteSchedules:
    """read, write: do work on the reading connection, or in a transaction of the writing one.

    tell: takes the news of what is written, and tells it once that is durable.
    """

    def __init__(
        self, clock: Clock, lines: Lines, read: Run, write: Write, tell: Callable[[Sequence[Change]], None]
    ) -> None:
        self._clock = clock
        self._lines = lines
        self._read = read
        self._write = write
        self._tell = tell

    async def create(self, schedule: Schedule, *, most: int | None = None) -> None:
        await self._write(functools.partial(_create, schedule=schedule, most=most), _size(schedule))

    async def find(self, schedule_id: UUID) -> Schedule | None:
        found: Schedule | None = await self._read(functools.partial(_table.find, key=schedule_id))
        return found

    async def find_many(
        self, *, owner: str | None = None, name: str | None = None, limit: int, cursor: str | None = None
    ) -> SchedulePage:
        before = NEWEST if cursor is None else from_cursor(cursor)
        values = {"owner": owner, "name": name, "before": before, "limit": limit + 1}
        page: SchedulePage = await self._read(functools.partial(_page, values=values, limit=limit))
        return page

    async def update(self, schedule: Schedule) -> bool:
        return bool(await self._write(functools.partial(_update, schedule=schedule), _size(schedule)))

    async def delete(self, schedule_id: UUID) -> None:
        await self._write(functools.partial(_delete, schedule_id=schedule_id))

    async def find_due(self, *, types: Collection[str], limit: int, skip: int = 0) -> Due:
        now = self._clock.now()
        due: Due = await self._read(functools.partial(_find_due, now=now, types=types, limit=limit, skip=skip))
        return due

    async def fire(self, firing: Firing) -> Fired | None:
        size = _size(firing.schedule) + sum(map(draft_size, firing.drafts))
        fired: Fired | None = await self._write(lambda connection: self._fire(connection, firing), size)
        return fired

    async def trigger(self, schedule_id: UUID, draft: Draft) -> Receipt:
        size = 2 * draft_size(draft)  # its params are in the schedule as well, which is written anew
        receipt: Receipt = await self._write(lambda connection: self._trigger(connection, schedule_id, draft), size)
        return receipt

    def _fire(self, connection: apsw.Connection, firing: Firing) -> Fired | None:
        there = _table.find(connection, firing.schedule.schedule_id)
        if there is None or there.version != firing.schedule.version:
            return None
        now = self._clock.now()
        firing = structs.replace(firing, schedule=there)
        open_tasks = _open_of(connection, there)
        resolution = resolve(firing, open_tasks)
        for task_id in resolution.cancel:
            self._tell(changes.cancel(connection, self._lines, task_id, to_micros(now))[1])
        submitted: list[Draft] = []
        for draft in resolution.drafts:
            refusal = self._submit(connection, draft, now)
            if refusal is None:
                submitted.append(draft)
            else:
                skip = Skip(tick=tick_of(draft), reason="refused", detail=refusal)
                resolution = resolution._replace(skip=skip)
        after = settle(firing, resolution, open_tasks, submitted)
        _table.update(connection, after)
        return Fired(schedule=after, submitted=tuple(draft.task_id for draft in submitted), cancelled=resolution.cancel)

    def _submit(self, connection: apsw.Connection, draft: Draft, now: datetime) -> str | None:
        """Store the task of a tick, unless it is there; return why it is not stored, if it is not."""
        if connection.execute(QUERIES["status_by_id"], (draft.task_id.bytes,)).fetchone() is not None:
            return None
        try:
            return why_not(self._insert(connection, draft, now))
        except RequestError as error:  # before it has written anything
            return error.detail

    def _insert(self, connection: apsw.Connection, draft: Draft, now: datetime) -> Receipt:
        receipt, news = changes.insert(connection, self._lines, draft, to_micros(now), alone=False)
        self._tell(news)
        return receipt

    def _trigger(self, connection: apsw.Connection, schedule_id: UUID, draft: Draft) -> Receipt:
        schedule = _table.find(connection, schedule_id)
        if schedule is None:
            raise no_schedule(schedule_id)
        receipt = self._insert(connection, draft, self._clock.now())
        if receipt.outcome == "stored":
            recent = with_recent(schedule.recent, draft.task_id)
            after = structs.replace(schedule, version=schedule.version + 1, last_task_id=draft.task_id, recent=recent)
            _table.update(connection, after)
        return receipt


def _size(schedule: Schedule) -> int:
    """Return the bytes of what may be large in a schedule."""
    return len(memoryview(schedule.task))


def _page(connection: apsw.Connection, values: dict[str, Any], limit: int) -> SchedulePage:
    """Return the first of the schedules that are asked for, as far as their tasks come to no more than PAGE_BYTES."""
    items: list[Schedule] = []
    last, room = 0, PAGE_BYTES
    for row in connection.execute(QUERIES["schedules_page"], values):
        schedule = _table.value(row[1:])
        room -= _size(schedule)
        if len(items) == limit or (items and room < 0):
            return SchedulePage(items=items, next_cursor=to_cursor(last))
        items.append(schedule)
        last = row[0]
    return SchedulePage(items=items, next_cursor=None)


def _create(connection: apsw.Connection, *, schedule: Schedule, most: int | None) -> None:
    if connection.execute(QUERIES["schedule_by_name"], (schedule.owner, schedule.name)).fetchone() is not None:
        raise name_taken(schedule.name)
    if most is not None and connection.execute(QUERIES["count_schedules"], (schedule.owner,)).get >= most:
        raise too_many("schedules of this owner (TASKER_MAX_SCHEDULES)", most)
    _table.insert(connection, schedule)


def _update(connection: apsw.Connection, *, schedule: Schedule) -> bool:
    there = _table.find(connection, schedule.schedule_id)
    if there is None or there.version != schedule.version - 1:
        return False
    named = connection.execute(QUERIES["schedule_by_name"], (schedule.owner, schedule.name)).get
    if named not in (None, schedule.schedule_id.bytes):
        raise name_taken(schedule.name)
    _table.update(connection, schedule)
    return True


def _delete(connection: apsw.Connection, *, schedule_id: UUID) -> None:
    if not _table.delete(connection, schedule_id):
        raise no_schedule(schedule_id)


def _find_due(connection: apsw.Connection, *, now: datetime, types: Collection[str], limit: int, skip: int) -> Due:
    values = {"now": to_micros(now), "types": json.dumps(list(types)), "limit": limit, "skip": skip}
    schedules: list[Schedule] = []
    room = DUE_BYTES
    for row in connection.execute(QUERIES["schedules_due"], values):
        schedule = _table.value(row)
        room -= _size(schedule)
        if schedules and room < 0:
            break
        schedules.append(schedule)
    following = connection.execute(QUERIES["schedules_next"], (to_micros(now),)).get
    return Due(now=now, schedules=schedules, next_at=None if following is None else from_micros(following))


def _open_of(connection: apsw.Connection, schedule: Schedule) -> Sequence[UUID]:
    """Return which of the schedule's tasks are open, oldest first."""
    if schedule.overlap == "allow" or not schedule.recent:
        return ()
    ids = json.dumps([task_id.hex for task_id in schedule.recent])
    return [task_id_of(row[0]) for row in connection.execute(QUERIES["open_of"], (ids,))]
