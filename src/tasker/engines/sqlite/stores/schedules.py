"""The ScheduleStore of the embedded engine."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
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
from tasker.engines.sqlite.control import cancel_open
from tasker.engines.sqlite.reader import Reader
from tasker.engines.sqlite.rows import task_id_of
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.submit import insert
from tasker.engines.sqlite.tables import Table
from tasker.engines.sqlite.transaction import Transaction, Write
from tasker.errors import RequestError
from tasker.model import Draft, Receipt
from tasker.model.schedules import Due, Fired, Firing, Schedule, SchedulePage, Skip
from tasker.rules.timing import resolve, settle, tick_of, with_recent

_table = Table(SCHEDULES)


class SqliteSchedules:
    """read, write: do work on the reading connection, or in a transaction of the writing one."""

    def __init__(self, clock: Clock, read: Reader, write: Write) -> None:
        self._clock = clock
        self._read = read
        self._write = write

    async def create(self, schedule: Schedule, *, most: int | None = None) -> None:
        await self._write(functools.partial(_create, schedule=schedule, most=most), size=_size(schedule))

    async def find(self, schedule_id: UUID) -> Schedule | None:
        return await self._read(_table.find, schedule_id)

    async def find_many(
        self, *, owner: str | None = None, name: str | None = None, limit: int, cursor: str | None = None
    ) -> SchedulePage:
        before = NEWEST if cursor is None else from_cursor(cursor)
        values = {"owner": owner, "name": name, "before": before, "limit": limit + 1}
        return await self._read(_page, values, limit)

    async def update(self, schedule: Schedule) -> bool:
        return await self._write(functools.partial(_update, schedule=schedule), size=_size(schedule))

    async def delete(self, schedule_id: UUID) -> None:
        await self._write(functools.partial(_delete, schedule_id=schedule_id))

    async def find_due(self, *, types: Collection[str], limit: int, skip: int = 0) -> Due:
        return await self._read(_find_due, self._clock.now(), types, limit, skip)

    async def fire(self, firing: Firing) -> Fired | None:
        size = _size(firing.schedule) + sum(map(draft_size, firing.drafts))
        return await self._write(functools.partial(_fire, firing=firing), size=size)

    async def trigger(self, schedule_id: UUID, draft: Draft) -> Receipt:
        size = 2 * draft_size(draft)  # its params are in the schedule as well, which is written anew
        return await self._write(functools.partial(_trigger, schedule_id=schedule_id, draft=draft), size=size)


def _fire(tx: Transaction, *, firing: Firing) -> Fired | None:
    there = _table.find(tx.connection, firing.schedule.schedule_id)
    if there is None or there.version != firing.schedule.version:
        return None
    firing = structs.replace(firing, schedule=there)
    open_tasks = _open_of(tx.connection, there)
    resolution = resolve(firing, open_tasks)
    for task_id in resolution.cancel:
        cancel_open(tx, task_id)
    submitted: list[Draft] = []
    for draft in resolution.drafts:
        refusal = _submit(tx, draft)
        if refusal is None:
            submitted.append(draft)
        else:
            skip = Skip(tick=tick_of(draft), reason="refused", detail=refusal)
            resolution = resolution._replace(skip=skip)
    after = settle(firing, resolution, open_tasks, submitted)
    _table.update(tx.connection, after)
    return Fired(schedule=after, submitted=tuple(draft.task_id for draft in submitted), cancelled=resolution.cancel)


def _submit(tx: Transaction, draft: Draft) -> str | None:
    """Store the task of a tick, unless it is there; return why it is not stored, if it is not."""
    if tx.execute(QUERIES["status_by_id"], (draft.task_id.bytes,)).fetchone() is not None:
        return None
    try:
        return why_not(insert(tx, draft))
    except RequestError as error:  # before it has written anything
        return error.detail


def _trigger(tx: Transaction, *, schedule_id: UUID, draft: Draft) -> Receipt:
    schedule = _table.find(tx.connection, schedule_id)
    if schedule is None:
        raise no_schedule(schedule_id)
    receipt = insert(tx, draft)
    if receipt.outcome == "stored":
        recent = with_recent(schedule.recent, draft.task_id)
        after = structs.replace(schedule, version=schedule.version + 1, last_task_id=draft.task_id, recent=recent)
        _table.update(tx.connection, after)
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


def _create(tx: Transaction, *, schedule: Schedule, most: int | None) -> None:
    if tx.execute(QUERIES["schedule_by_name"], (schedule.owner, schedule.name)).fetchone() is not None:
        raise name_taken(schedule.name)
    if most is not None and tx.execute(QUERIES["count_schedules"], (schedule.owner,)).get >= most:
        raise too_many("schedules of this owner (TASKER_MAX_SCHEDULES)", most)
    _table.insert(tx.connection, schedule)


def _update(tx: Transaction, *, schedule: Schedule) -> bool:
    there = _table.find(tx.connection, schedule.schedule_id)
    if there is None or there.version != schedule.version - 1:
        return False
    named = tx.execute(QUERIES["schedule_by_name"], (schedule.owner, schedule.name)).get
    if named not in (None, schedule.schedule_id.bytes):
        raise name_taken(schedule.name)
    _table.update(tx.connection, schedule)
    return True


def _delete(tx: Transaction, *, schedule_id: UUID) -> None:
    if not _table.delete(tx.connection, schedule_id):
        raise no_schedule(schedule_id)


def _find_due(connection: apsw.Connection, now: datetime, types: Collection[str], limit: int, skip: int) -> Due:
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
