"""The ScheduleStore."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Generic, Literal, NamedTuple
from uuid import UUID

from msgspec import structs

from tasker.engines.shared.batches import draft_size
from tasker.engines.shared.cursors import to_cursor
from tasker.engines.shared.refusals import missing, name_taken, too_many, why_not
from tasker.engines.shared.rows import Database, R, Rows, Taken
from tasker.engines.shared.stores.pages import start_of
from tasker.engines.shared.tables import SCHEDULES
from tasker.engines.shared.values import DUE_BYTES, PAGE_BYTES
from tasker.errors import RequestError
from tasker.model import Draft, Receipt
from tasker.model.schedules import Due, Fired, Firing, PastTick, Schedule, SchedulePage, Skip
from tasker.rules.ticks import resolve, settle, tick_of, with_recent

_OWNERS = 0x74696D65
"""The class of the locks under which an owner's schedules are counted: "time"."""


class _Refusal(NamedTuple):
    """Why the task of a tick was not stored. by_limit: its owner has open tasks in too many queues."""

    detail: str
    by_limit: bool = False

    def past(self, tick: datetime, now: datetime) -> PastTick:
        """Return the tick as its schedule remembers it."""
        skipped: Literal["limit_reached", "refused"] = "limit_reached" if self.by_limit else "refused"
        return PastTick(tick=tick, fired_at=now, skipped=skipped, detail=self.detail)


class Schedules(ABC, Generic[R]):
    """Schedules. Each engine adds how to submit and cancel tasks in the same transaction."""

    def __init__(self, database: Database[R]) -> None:
        self._database = database

    @abstractmethod
    async def _submit(self, rows: R, draft: Draft) -> Receipt:
        """Store the task of a draft."""

    @abstractmethod
    async def _submit_tick(self, rows: R, draft: Draft) -> Receipt:
        """Store the task of a tick unless it exists. Raises RequestError without any change."""

    @abstractmethod
    async def _cancel(self, rows: R, task_id: UUID) -> None:
        """Cancel a task that this transaction has seen open."""

    async def create(self, schedule: Schedule, *, most: int | None = None) -> None:
        async def work(rows: R) -> None:
            if rows.is_retry and await rows.find(SCHEDULES, schedule.schedule_id) is not None:
                return
            if most is not None:
                await rows.lock(_OWNERS, schedule.owner)
            await _check_name(rows, schedule)
            if most is not None and await rows.count("count_schedules", owner=schedule.owner) >= most:
                raise too_many("schedules of this owner (TASKER_MAX_SCHEDULES)", most)
            if not await rows.insert(SCHEDULES, schedule):
                raise name_taken(schedule.name)

        await self._database.write(work, size=_size(schedule))

    async def find(self, schedule_id: UUID) -> Schedule | None:
        return await self._database.read(lambda rows: rows.find(SCHEDULES, schedule_id))

    async def find_many(
        self, *, owner: str | None = None, name: str | None = None, limit: int, cursor: str | None = None
    ) -> SchedulePage:
        before = start_of(cursor)
        values = {"owner": owner, "name": name, "before": before, "limit": limit + 1, "size": PAGE_BYTES}
        found = await self._database.read(lambda rows: rows.fetch("schedules_page", int, int, SCHEDULES, **values))
        page = found[:limit]
        more = bool(page) and page[0][1] > len(page)
        return SchedulePage(
            items=[schedule for _, _, schedule in page], next_cursor=to_cursor(page[-1][0]) if more else None
        )

    async def update(self, schedule: Schedule) -> bool:
        async def work(rows: R) -> bool:
            there = await rows.find(SCHEDULES, schedule.schedule_id, lock=True)
            if rows.is_retry and there == schedule:
                return True
            if there is None or there.version != schedule.version - 1:
                return False
            await _check_name(rows, schedule)
            await rows.update(SCHEDULES, schedule)
            return True

        try:
            return await self._database.write(work, size=_size(schedule))
        except Taken as error:
            raise name_taken(schedule.name) from error

    async def delete(self, schedule_id: UUID) -> None:
        async def work(rows: R) -> None:
            if not await rows.delete(SCHEDULES, schedule_id) and not rows.is_retry:
                raise missing("schedule", schedule_id)

        await self._database.write(work)

    async def find_due(self, *, types: Collection[str], limit: int, skip: int = 0) -> Due:
        async def query(rows: R) -> Due:
            [(now, next_at)] = await rows.fetch("schedules_now", datetime, datetime)
            values = {"at": now, "types": list(types), "limit": limit, "skip": skip, "size": DUE_BYTES}
            return Due(now=now, schedules=await rows.structs("schedules_due", SCHEDULES, **values), next_at=next_at)

        return await self._database.look(query)

    async def fire(self, firing: Firing) -> Fired | None:
        size = _size(firing.schedule) + sum(map(draft_size, firing.drafts))
        return await self._database.write(lambda rows: self._fire(rows, firing), size=size)

    async def trigger(self, schedule_id: UUID, draft: Draft) -> Receipt:
        async def work(rows: R) -> Receipt:
            schedule = await rows.find(SCHEDULES, schedule_id, lock=True)
            if schedule is None:
                raise missing("schedule", schedule_id)
            receipt = await self._submit(rows, draft)
            if receipt.outcome == "stored" and draft.task_id not in schedule.recent:
                await rows.update(SCHEDULES, _triggered(schedule, draft))
            return receipt

        size = 2 * draft_size(draft)  # the schedule's row, which is rewritten, contains the params too
        return await self._database.write(work, size=size)

    async def _fire(self, rows: R, firing: Firing) -> Fired | None:
        """Fire a schedule with its row locked, so that another process that wants to fire it finds the next version."""
        there = await rows.find(SCHEDULES, firing.schedule.schedule_id, lock=True)
        if there is None or there.version != firing.schedule.version:
            return None
        firing = structs.replace(firing, schedule=there)
        open_tasks = await _open_tasks(rows, there)
        resolution = resolve(firing, open_tasks)
        for task_id in resolution.cancel:
            await self._cancel(rows, task_id)
        submitted: list[Draft] = []
        refused: list[PastTick] = []
        for draft in resolution.drafts:
            refusal = await self._refusal_of_tick(rows, draft)
            if refusal is None:
                submitted.append(draft)
            else:
                refused.append(refusal.past(tick_of(draft), firing.now))
                skip = Skip(tick=tick_of(draft), reason="refused", detail=refusal.detail)
                resolution = resolution._replace(skip=skip)
        after = settle(firing, resolution, open_tasks, submitted, refused)
        await rows.update(SCHEDULES, after)
        return Fired(schedule=after, submitted=tuple(draft.task_id for draft in submitted), cancelled=resolution.cancel)

    async def _refusal_of_tick(self, rows: R, draft: Draft) -> _Refusal | None:
        """Store the task of a tick; return why it is refused, if it is."""
        try:
            receipt = await self._submit_tick(rows, draft)
        except RequestError as error:
            return _Refusal(error.detail)
        detail = why_not(receipt)
        if detail is None:
            return None
        return _Refusal(detail, receipt.refusal is not None and receipt.refusal.kind.name == "limit-reached")


async def _check_name(rows: Rows, schedule: Schedule) -> None:
    """Raise Conflict if another of the owner's schedules has the name."""
    named = await rows.value("schedule_by_name", UUID, owner=schedule.owner, name=schedule.name)
    if named not in (None, schedule.schedule_id):
        raise name_taken(schedule.name)


async def _open_tasks(rows: Rows, schedule: Schedule) -> Sequence[UUID]:
    """Return the schedule's open tasks, oldest first; none if its rule for overlaps does not need them."""
    if schedule.overlap == "allow" or not schedule.recent:
        return ()
    return await rows.values("open_of", UUID, task_ids=schedule.recent)


def _triggered(schedule: Schedule, draft: Draft) -> Schedule:
    recent = with_recent(schedule.recent, draft.task_id)
    return structs.replace(schedule, version=schedule.version + 1, last_task_id=draft.task_id, recent=recent)


def _size(schedule: Schedule) -> int:
    """Return the bytes of the large parts of a schedule."""
    return len(memoryview(schedule.task))
